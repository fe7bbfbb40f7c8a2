package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mailturn/mailturn/framework/password"
)

func newHashPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash-password",
		Short: "Print the hash of a password, for page_password and embedded users",
		Long: `hash-password asks for a password twice, without showing it, and prints its bcrypt hash, for
page_password and for users of the embedded IMAP server. Without a terminal, it reads the
password from the first line of standard input.`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			text, err := newPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			hash, err := password.Hash(text)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), hash)
			return err
		}),
	}
}

// newPassword asks for a password on a terminal, twice because it is not shown, or reads a line.
func newPassword(stdin io.Reader, stderr io.Writer) (string, error) {
	file, ok := stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(stdin, maxSecretFile)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
	}
	var typed [2]string
	for i, prompt := range []string{"Password: ", "The same again: "} {
		var err error
		if typed[i], err = askPassword(file, stderr, prompt); err != nil {
			return "", err
		}
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ: try again")
	}
	return typed[0], nil
}

// askPassword asks on a terminal, which does not show what is typed.
func askPassword(terminal *os.File, stderr io.Writer, prompt string) (string, error) {
	fmt.Fprint(stderr, prompt)
	typed, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(stderr)
	return string(typed), err
}
