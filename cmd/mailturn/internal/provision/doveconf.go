package provision

import "strings"

// A setting is a line or a block in the output of doveconf.
type setting struct {
	name  string // including the label of a block: "service imap-login"
	value string
	inner []setting // of a block
}

// parseDoveconf parses the output of doveconf, in the syntax of Dovecot 2.3 and 2.4. It skips lines that it does not understand.
func parseDoveconf(text string) []setting {
	lines := strings.Split(text, "\n")
	settings, _ := parseBlock(lines)
	return settings
}

// parseBlock parses up to the end of a block, and returns the lines after it.
func parseBlock(lines []string) (settings []setting, rest []string) {
	for len(lines) > 0 {
		line := strings.TrimSpace(lines[0])
		lines = lines[1:]
		switch {
		case line == "}":
			return settings, lines
		case line == "" || line[0] == '#':
		case strings.HasSuffix(line, "{"):
			s := setting{name: strings.TrimSpace(strings.TrimSuffix(line, "{"))}
			s.inner, lines = parseBlock(lines)
			settings = append(settings, s)
		default:
			if name, value, ok := strings.Cut(line, "="); ok {
				settings = append(settings, setting{name: strings.TrimSpace(name), value: unquote(strings.TrimSpace(value))})
			}
		}
	}
	return settings, nil
}

// unquote removes the quotation marks that doveconf puts around some values.
func unquote(value string) string {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(value[1 : len(value)-1])
	}
	return value
}

// find returns the value of a setting, or "" if there is none.
func find(settings []setting, name string) string {
	for _, s := range settings {
		if s.name == name && s.inner == nil {
			return s.value
		}
	}
	return ""
}

// blocks calls f with the label and the contents of each block of a kind, however deep.
func blocks(settings []setting, kind string, f func(label string, inner []setting)) {
	for _, s := range settings {
		if name, label, _ := strings.Cut(s.name, " "); name == kind && s.value == "" {
			f(unquote(label), s.inner)
		}
		blocks(s.inner, kind, f)
	}
}

// values calls f with the value of each setting with the given name, however deep.
func values(settings []setting, name string, f func(value string)) {
	for _, s := range settings {
		if s.name == name && s.value != "" {
			f(s.value)
		}
		values(s.inner, name, f)
	}
}
