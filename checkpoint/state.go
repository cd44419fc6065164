// Package checkpoint keeps a worker's state across crashes and restarts.
//
// A checkpoint is a folder:
//
//	round-00000123/
//	    model.safetensors   the parameters, under the names State.Model gives them
//	    state.safetensors   everything else: outer state, moments, residuals
//	    manifest.json       version, round, step, tokens, worker, meta, and for each
//	                        file its size and SHA-256; the last field is the SHA-256
//	                        of the manifest without it
//
// It is complete or invisible: files are written and fsynced in a folder with a
// temporary name, which is renamed to the final one, and the parent is fsynced. A
// folder with a final name that does not verify was damaged later; readers name it
// in a [CorruptError] and use the one before it.
//
// [Writer] does all that in the background: training copies its state to a buffer and
// goes on.
package checkpoint

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Vector is a named float32 tensor. Its bits are kept as they are, NaN payloads too.
type Vector struct {
	Name  string
	Shape []int     // dimensions, slowest first; empty for a scalar
	Data  []float32 // as many values as Shape's product
}

// State is what a worker needs to go on as if it had not stopped.
type State struct {
	Round, Step, Tokens uint64
	Worker              int
	Model               []Vector          // parameters: model.safetensors
	Vectors             []Vector          // the rest: state.safetensors
	Meta                map[string]string // configuration hash, strategy, schedule, RNG, ...

	writer *Writer // whose buffer this is; nil when the caller made it
}

// Find returns the data of the vector of that name.
func Find(list []Vector, name string) ([]float32, bool) {
	for _, v := range list {
		if v.Name == name {
			return v.Data, true
		}
	}
	return nil, false
}

// check refuses a state that could not be read back as it is.
func (s *State) check() error {
	if err := checkVectors(s.Model); err != nil {
		return fmt.Errorf("checkpoint: model: %w", err)
	}
	if err := checkVectors(s.Vectors); err != nil {
		return fmt.Errorf("checkpoint: state: %w", err)
	}
	for key, value := range s.Meta {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return fmt.Errorf("checkpoint: meta %q: not UTF-8; encode bytes as hex", key)
		}
	}
	if s.Worker < 0 {
		return fmt.Errorf("checkpoint: worker %d: must not be negative", s.Worker)
	}
	return nil
}

// A CorruptError is a checkpoint that is not what was written.
type CorruptError struct {
	Path   string // of the checkpoint's folder
	File   string // in it
	Reason string // size, hash, JSON, ...
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("checkpoint: %s is damaged: %s: %s", e.Path, e.File, e.Reason)
}

// ErrNone is what Latest and LoadLatest wrap when no root holds a valid checkpoint.
var ErrNone = errors.New("no valid checkpoint")
