package p2p

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"loco/mesh"
	"loco/mesh/wire"
)

// ErrClosed is returned by New's Mesh after Leave or Close.
var ErrClosed = errors.New("p2p: the mesh is closed")

// maxDiffsShown bounds the text of a ConfigError.
const maxDiffsShown = 20

// Diff is a key of the configuration on which two workers do not agree. A side
// that lacks the key has an empty value.
type Diff struct{ Key, Ours, Theirs string }

// ConfigError says that a peer serves another run. New returns it, as the refused
// side; the other side logs it.
type ConfigError struct {
	Peer  mesh.ID
	Diffs []Diff // sorted by key
}

func (e *ConfigError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "p2p: %s runs another configuration", e.Peer)
	if len(e.Diffs) == 0 {
		b.WriteString(" (its lines are the same, their hash is not: run the same release of loco on both)")
		return b.String()
	}
	for i, d := range e.Diffs {
		if i == maxDiffsShown {
			fmt.Fprintf(&b, "; and %d more", len(e.Diffs)-i)
			break
		}
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		key := wire.Cut(d.Key, maxReasonBytes) // may be a stranger's, as its value
		if !strconv.CanBackquote(key) {
			key = strconv.Quote(key)
		}
		fmt.Fprintf(&b, "%s%s is %q here and %q there", sep, key, d.Ours, wire.Cut(d.Theirs, maxReasonBytes))
	}
	return b.String()
}

// WorkerTakenError says that a live member has the number this worker was given.
// New returns it.
type WorkerTakenError struct {
	Worker int
	By     mesh.ID
}

func (e *WorkerTakenError) Error() string {
	return fmt.Sprintf("p2p: worker number %d is taken by live member %s: give this worker another", e.Worker, e.By)
}
