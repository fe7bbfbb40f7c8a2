package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/turnsrv"
)

// takeoverCommand is the name of the command that a running mailturn calls of the program that is to follow it.
const takeoverCommand = "takeover"

// takeoverReport is what the command prints as JSON.
type takeoverReport struct {
	Version string `json:"version"`
	// OldestState and NewestState are the versions of a relay's state that the program reads.
	OldestState int `json:"oldest_state"`
	NewestState int `json:"newest_state"`
	// ReadsBansAgain says that the program knows serviceState.BansChanged.
	ReadsBansAgain bool `json:"reads_bans_again"`
	// ReadsUsage says that the program knows messageUsage, and serviceState.Answer.
	ReadsUsage bool `json:"reads_usage"`
}

// stateVersion returns the newest version of the state that this program writes and the other one reads.
func (r takeoverReport) stateVersion() (int, error) {
	version := min(r.NewestState, turnsrv.StateVersion)
	if version < max(r.OldestState, turnsrv.OldestStateVersion) {
		return 0, fmt.Errorf("it reads the state of calls in the versions %d to %d, and this program writes %d to %d",
			r.OldestState, r.NewestState, turnsrv.OldestStateVersion, turnsrv.StateVersion)
	}
	return version, nil
}

// newTakeoverCommand returns the internal command that tells whether this program can follow a running mailturn.
func newTakeoverCommand() *cobra.Command {
	var configFile, stateDir string
	var check bool
	cmd := &cobra.Command{
		Use:    takeoverCommand,
		Short:  "Tell a running mailturn whether this program can take over its calls",
		Hidden: true,
		Args:   noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if check {
				if _, err := load(configFile, stateDir, cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(takeoverReport{
				Version: buildInfo().Main.Version, OldestState: turnsrv.OldestStateVersion, NewestState: turnsrv.StateVersion, ReadsBansAgain: true,
				ReadsUsage: true,
			})
		}),
	}
	cmd.Flags().BoolVar(&check, "check", false, "check the configuration, too")
	cmd.Flags().StringVar(&configFile, "config", "", "configuration `file`")
	cmd.Flags().StringVar(&stateDir, "state-dir", "", "state `directory`")
	return cmd
}
