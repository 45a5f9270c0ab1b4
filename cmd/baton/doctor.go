package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"baton/doctor"
)

func doctorCommand(f *flags) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong, and say what to do",
		Long: `doctor looks at ports and who holds them, addresses, firewall, certificate, store, clock, open files, audio
ports, names and registered devices, with the node running and without. It changes nothing. What it finds
stands worst first, each with commands or settings to copy. As root it sees more: other accounts'
programs, and the rules of the firewall.

The status is 0 when nothing is worse than a note, 1 with a warning, 2 with an error.`,
		Example: `  sudo baton doctor
  baton doctor --config /etc/baton/baton.yaml --data /var/lib/baton
  baton doctor --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := f.examine(cmd.Context(), file)
			doctor.Sort(all)
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), report{doctor.Worst(all), all}); err != nil {
					return err
				}
			} else if err := showFindings(cmd.OutOrStdout(), all); err != nil {
				return err
			}
			return verdict(all)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (else BATON_CONFIG, else baton.yaml here)")
	withJSON(cmd, &asJSON)
	return cmd
}

// report is what doctor tells programs.
type report struct {
	Worst    doctor.Level     `json:"worst"`
	Findings []doctor.Finding `json:"findings"`
}

// verdict is the exit status of the worst finding, with a line for people.
func verdict(all []doctor.Finding) error {
	switch doctor.Worst(all) {
	case doctor.Error:
		return &exitError{2, errors.New("doctor found " + tally(all))}
	case doctor.Warning:
		return &exitError{1, errors.New("doctor found " + tally(all))}
	}
	return nil
}

// tally counts the findings in words, the worst first.
func tally(all []doctor.Finding) string {
	var words []string
	for l := doctor.Error; l >= doctor.Note; l-- {
		if n := doctor.Count(all, l); n > 0 {
			words = append(words, plural(n, l.String()))
		}
	}
	if len(words) == 0 {
		return "nothing wrong"
	}
	return strings.Join(words, ", ")
}

// showFindings prints what was found, worst first. Text is wrapped at 80 columns; commands are not, for they are to be
// copied.
func showFindings(out io.Writer, all []doctor.Finding) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %d looked at and good\n\n", tally(all), doctor.Count(all, doctor.OK))
	for i, f := range all {
		if f.Level == doctor.OK && i > 0 && all[i-1].Level != doctor.OK {
			b.WriteByte('\n')
		}
		text := f.Check + ": "
		if f.Where != "" {
			text += f.Where + ": "
		}
		lines := wrap(clean(text+f.Text), 80-9)
		fmt.Fprintf(&b, "%-9s%s\n", level(f.Level), strings.Join(lines, "\n         "))
		for _, cure := range f.Cure {
			fmt.Fprintf(&b, "           > %s\n", clean(cure))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// level is a level as it catches the eye.
func level(l doctor.Level) string {
	if l >= doctor.Warning {
		return strings.ToUpper(l.String())
	}
	return l.String()
}

// wrap breaks text into lines of at most width columns between words; a longer word has a line of its own.
func wrap(text string, width int) []string {
	var lines []string
	var line string
	for word := range strings.FieldsSeq(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
