package config

import "strings"

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Where string // "run.toml:12", "--set", "preset tiny"; "" for a Config made in code
	Key   string // "sync.gamma"; "" when it is about the whole file
	Value string // as TOML; "" when there is none
	Why   string // what is wrong and what is allowed
}

// String writes the problem in one line: where, key = value, why.
func (p Problem) String() string {
	var parts []string
	if p.Where != "" {
		parts = append(parts, p.Where)
	}
	switch {
	case p.Key != "" && p.Value != "":
		parts = append(parts, p.Key+" = "+p.Value)
	case p.Key != "":
		parts = append(parts, p.Key)
	}
	return strings.Join(append(parts, p.Why), ": ")
}

// Error holds every problem that was found, in file order. It is a mistake of the
// user's, not of the program: loco exits with 2.
type Error struct{ Problems []Problem }

// Error writes one problem a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
