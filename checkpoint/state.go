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
	Path   string // of the checkpoint: Store.Where
	File   string // in it
	Reason string // size, hash, JSON, ...
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("checkpoint: %s is damaged: %s: %s", e.Path, e.File, e.Reason)
}

// ErrNone is what [Latest] and [Newest] wrap when no checkpoint is there that verifies.
var ErrNone = errors.New("no valid checkpoint")
