package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// script is a script with its source. Redis 7.0 says in which line of a script it has refused a command, but not which command, so
// commands that need different permissions are in different lines.
type script struct {
	*redis.Script
	source string
}

func newScript(source string) script { return script{redis.NewScript(source), source} }

// scripts are all scripts of this package.
func scripts() []script {
	return []script{announce, leave, ask, take, put, lease, claim, account, clean}
}

// A PermissionError is that the user of Redis lacks a permission.
type PermissionError struct {
	User string
	// Commands are those of which one was refused, in capital letters. There is none if the user may not use the keys, or if Redis does
	// not say which command it was.
	Commands []string
	// Rules are the ACL rules to add. Some may be there already.
	Rules []string

	keys bool // the user may not use the keys
	err  error
}

// Error says what was refused, and what to do.
func (e *PermissionError) Error() string {
	what := "use a command that mailturn needs"
	switch {
	case len(e.Commands) > 0:
		what = "run " + strings.Join(e.Commands, " or ")
	case e.keys:
		what = "use the keys of mailturn"
	}
	return fmt.Sprintf("the user %q of Redis may not %s: add %s to its ACL rules (%v)", e.User, what, strings.Join(e.Rules, " "), e.err)
}

// Unwrap returns what Redis has answered.
func (e *PermissionError) Unwrap() error { return e.err }

// IsPermission reports whether an error is that the user of Redis lacks a permission.
func IsPermission(err error) bool {
	_, ok := errors.AsType[*PermissionError](err)
	return ok
}

var (
	refusedCommand = regexp.MustCompile(`'([a-z|]+)' command`)
	refusedLine    = regexp.MustCompile(`script: ([0-9a-f]{40}), on @user_script:([0-9]+)`)
	calledCommand  = regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`)
)

// permissionError returns a PermissionError for an answer of Redis that says that a permission is missing, and otherwise the answer.
// The forms are those of Redis 7.0 (NOPERM, and "The user executing the script can't" in a script) and of later releases and Valkey
// ("ACL failure in script").
func permissionError(err error, user, prefix string) error {
	if err == nil || !Refused(err) {
		return err
	}
	text := err.Error()
	if !slices.ContainsFunc([]string{"NOPERM", "The user executing the script can't", "ACL failure in script"},
		func(s string) bool { return strings.Contains(text, s) }) {
		return err
	}
	if user == "" {
		user = "default"
	}
	refused := &PermissionError{User: user, err: err}
	if strings.Contains(text, " key") {
		refused.keys, refused.Rules = true, []string{"~" + prefix + ":*"}
		return refused
	}
	if m := refusedCommand.FindStringSubmatch(text); m != nil {
		name, _, _ := strings.Cut(m[1], "|") // the rest is a subcommand
		refused.Commands = []string{strings.ToUpper(name)}
	} else if m := refusedLine.FindStringSubmatch(text); m != nil {
		refused.Commands = commandsOf(m[1], m[2])
	}
	for _, command := range refused.Commands {
		if rule := ruleOf(command); !slices.Contains(refused.Rules, rule) {
			refused.Rules = append(refused.Rules, rule)
		}
	}
	if len(refused.Commands) == 0 {
		refused.Rules = documentedRules
	}
	return refused
}

// commandsOf returns the commands in a line of a script, which are mostly one.
func commandsOf(hash, line string) (commands []string) {
	n, _ := strconv.Atoi(line)
	for _, s := range scripts() {
		if lines := strings.Split(s.source, "\n"); s.Hash() == hash && n >= 1 && n <= len(lines) {
			for _, m := range calledCommand.FindAllStringSubmatch(lines[n-1], -1) {
				if !slices.Contains(commands, m[1]) {
					commands = append(commands, m[1])
				}
			}
		}
	}
	return commands
}

// documentedRules are the rules for commands in docs/cluster.md.
var documentedRules = []string{"+@hash", "+@sortedset", "+@stream", "+@scripting", "+@connection", "+time", "+del", "+pexpire", "+cluster"}

// ruleOf returns the one of documentedRules that permits a command.
func ruleOf(command string) string {
	switch {
	case strings.HasPrefix(command, "EVAL"):
		return "+@scripting"
	case slices.Contains([]string{"HELLO", "AUTH", "CLIENT", "PING", "SELECT", "READONLY"}, command):
		return "+@connection"
	case strings.HasPrefix(command, "H"):
		return "+@hash"
	case strings.HasPrefix(command, "Z"):
		return "+@sortedset"
	case strings.HasPrefix(command, "X"):
		return "+@stream"
	}
	return "+" + strings.ToLower(command)
}

// permissionHook makes a client return a PermissionError where Redis refuses a permission.
type permissionHook struct{ user, prefix string }

// DialHook implements redis.Hook.
func (permissionHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (h permissionHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := permissionError(next(ctx, cmd), h.user, h.prefix)
		if err != nil {
			cmd.SetErr(err)
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h permissionHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := permissionError(next(ctx, cmds), h.user, h.prefix)
		for _, cmd := range cmds {
			if cmd.Err() != nil {
				cmd.SetErr(permissionError(cmd.Err(), h.user, h.prefix))
			}
		}
		return err
	}
}
