package main

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed equivalent.txt
var equivalentText string

// equivalents maps a mutant's key to the reason why no test can tell it from the original.
type equivalents map[string]string

// parseEquivalents reads lines of "FILE | FUNCTION | BEFORE  →  AFTER | REASON". A line that begins with
// # is a comment.
func parseEquivalents(text string) (equivalents, error) {
	known := equivalents{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndex(line, " | ")
		if at < 0 || strings.Count(line[:at], " | ") < 2 || !strings.Contains(line, "  →  ") {
			return nil, fmt.Errorf("equivalent.txt:%d: want FILE | FUNCTION | BEFORE  →  AFTER | REASON", n)
		}
		known[line[:at]] = line[at+3:]
	}
	return known, nil
}

// without splits off the mutants that are known to be equivalent, and counts them.
func (known equivalents) without(all []mutant) ([]mutant, int) {
	var left []mutant
	for _, m := range all {
		if _, ok := known[m.key()]; !ok {
			left = append(left, m)
		}
	}
	return left, len(all) - len(left)
}
