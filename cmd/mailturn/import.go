package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/endpoint/turn/coturn"
	"github.com/mailturn/mailturn/framework/config"
)

func newImportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import TURNSERVER.CONF",
		Short: "Translate a configuration of coturn into one of mailturn",
		Long: `import reads coturn's turnserver.conf and prints what it says as a configuration of mailturn.
Every directive is translated, or listed in a comment with the reason why not; what coturn did
and mailturn will not goes to standard error too. Then the result is checked as check-config
does. The exit status is 1 if it has errors, or a value of the file could not be translated.

The result holds the secrets and passwords of the file. To keep it:

  mailturn import /etc/turnserver.conf | install -m 0640 -g mailturn /dev/stdin /etc/mailturn/maddy.conf`,
		Args: oneArgument("TURNSERVER.CONF"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			directives, err := coturn.Parse(f)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			dir, err := filepath.Abs(filepath.Dir(args[0]))
			if err != nil {
				return err
			}
			imported := coturn.Translate(directives, dir)
			var text bytes.Buffer
			fmt.Fprintf(&text, "# From coturn's %s by mailturn import.\n\n", filepath.Base(args[0]))
			if err := imported.Write(&text); err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(text.Bytes()); err != nil {
				return err
			}
			wrong := false
			for _, remark := range imported.Remarks {
				prefix := ""
				if remark.Kind == coturn.Wrong {
					prefix, wrong = "error: ", true
				}
				if remark.Kind != coturn.Needless {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s: %s%s\n", args[0], remark.Place(), prefix, remark.Reason)
				}
			}

			file, diags := config.Parse("the result", text.Bytes())
			if !diags.HasErrors() {
				_, decodeDiags := decode(file, "")
				diags = append(diags, decodeDiags...)
			}
			if err := file.WriteDiagnostics(cmd.ErrOrStderr(), diags); err != nil {
				return err
			}
			if wrong || diags.HasErrors() {
				return errReported
			}
			return nil
		}),
	}
}
