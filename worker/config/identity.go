package config

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
)

// Canonical returns the sorted "table.key=value" lines of what makes the run what it
// is: the keys whose Identity is set. Left out is what one worker may choose by itself
// (threads, micro_batch, checkpointing, addresses, folders) and what only watches
// (evaluation, reports, metrics). Two workers train together only if these are equal.
func (c *Config) Canonical() []string {
	var lines []string
	for _, k := range Keys() {
		if k.Identity {
			lines = append(lines, k.Name+"="+k.Text(c))
		}
	}
	slices.Sort(lines)
	return lines
}

// RunID is the SHA-256, in hex, of the Canonical lines and of extra ones such as
// "data.digest=…", each ended by a newline and all sorted.
func (c *Config) RunID(extra ...string) string {
	lines := append(c.Canonical(), extra...)
	slices.Sort(lines)
	h := sha256.New()
	for _, line := range lines {
		io.WriteString(h, line+"\n") // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Differences returns the canonical lines of a that b has not, and the reverse, so
// that a refused worker can be told which keys differ.
func Differences(a, b []string) (onlyA, onlyB []string) {
	missing := func(from, in []string) (out []string) {
		for _, line := range from {
			if !slices.Contains(in, line) {
				out = append(out, line)
			}
		}
		return out
	}
	return missing(a, b), missing(b, a)
}
