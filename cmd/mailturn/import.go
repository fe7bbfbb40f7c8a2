package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/endpoint/turn/coturn"
	"github.com/mailturn/mailturn/framework/config"
)

func newImportCommand() *cobra.Command {
	var output importOutput
	cmd := &cobra.Command{
		Use:   "import TURNSERVER.CONF",
		Short: "Translate a coturn configuration into a mailturn configuration",
		Long: `import reads coturn's turnserver.conf and prints an equivalent configuration of mailturn. Every
directive is either translated, or listed in a comment that says why it is not; what coturn did
and mailturn does not do is also reported on standard error. The result is then checked as by
check-config. The exit status is 1 if it has errors or if a value could not be translated.

With --output, the result goes to a file instead, which is replaced atomically and only if there
are no errors. The file contains the secrets and passwords of coturn's file: its mode is 0640,
and its group is mailturn unless --group says otherwise. If the file exists, --merge adds what
it lacks, and --overwrite replaces it. Both keep the old file as FILE.bak.

  mailturn import --output /etc/mailturn/maddy.conf /etc/turnserver.conf`,
		Args: oneArgument("TURNSERVER.CONF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := output.checkUsage(); err != nil {
				return err
			}
			return action(func(cmd *cobra.Command, args []string) error {
				return importCoturn(args[0], output, cmd.OutOrStdout(), cmd.ErrOrStderr())
			})(cmd, args)
		},
	}
	cmd.Flags().StringVarP(&output.path, "output", "o", "", "`file` to write instead of printing the result")
	cmd.Flags().BoolVar(&output.merge, "merge", false, "if the file exists, add what it lacks")
	cmd.Flags().BoolVar(&output.overwrite, "overwrite", false, "if the file exists, replace it")
	cmd.Flags().StringVar(&output.group, "group", "", "`name` of the group that may read the file (default: that of the existing file, else mailturn)")
	return cmd
}

// importCoturn translates the file at path.
func importCoturn(path string, output importOutput, stdout, stderr io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	directives, err := coturn.Parse(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return err
	}
	imported := coturn.Translate(directives, dir)
	header := fmt.Sprintf("# From coturn's %s by mailturn import.\n", filepath.Base(path))

	if output.path != "" {
		if err := output.open(f); err != nil {
			return err
		}
		text, kept, err := output.compose(imported, header)
		if err != nil {
			return err
		}
		if err := reportImport(path, imported, output.path, text, stderr); err != nil {
			fmt.Fprintf(stderr, "mailturn: %s was not written because of the errors above. Without --output, the result is printed anyway.\n", output.path)
			return err
		}
		return output.write(text, kept, stdout, stderr)
	}
	var text bytes.Buffer
	text.WriteString(header + "\n")
	if err := imported.Write(&text); err != nil {
		return err
	}
	if _, err := stdout.Write(text.Bytes()); err != nil {
		return err
	}
	return reportImport(path, imported, "the result", text.Bytes(), stderr)
}

// reportImport writes the remarks about the translation of the file at path to stderr, and the diagnostics of the result, a
// configuration of that name. The error is errReported if there are errors.
func reportImport(path string, imported *coturn.Import, name string, result []byte, stderr io.Writer) error {
	wrong := false
	for _, remark := range imported.Remarks {
		prefix := ""
		if remark.Kind == coturn.Wrong {
			prefix, wrong = "error: ", true
		}
		if remark.Kind != coturn.Needless {
			fmt.Fprintf(stderr, "%s: %s: %s%s\n", path, remark.Place(), prefix, remark.Reason)
		}
	}
	file, diags := config.Parse(name, result)
	if !diags.HasErrors() {
		_, decodeDiags := decode(file, "")
		diags = append(diags, decodeDiags...)
	}
	if err := file.WriteDiagnostics(stderr, diags); err != nil {
		return err
	}
	if wrong || diags.HasErrors() {
		return errReported
	}
	return nil
}
