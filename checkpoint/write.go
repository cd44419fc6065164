package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
)

// slackBytes is what a checkpoint takes beside its tensors: the manifest, folders, and
// blocks that are not full.
const slackBytes = 1 << 20

// pytorch is the metadata that Hugging Face's loaders look for.
var pytorch = map[string]string{"format": "pt"}

// sizeOf bounds the bytes that a checkpoint of s takes.
func sizeOf(s *State) (int64, error) {
	model, err := tensorBytes(s.Model, pytorch)
	if err != nil {
		return 0, err
	}
	rest, err := tensorBytes(s.Vectors, nil)
	return model + rest + slackBytes, err
}

// errEqual ends a Put whose checkpoint is there already.
var errEqual = errors.New("an equal checkpoint is there")

// Write puts a state into a store whose lock the caller holds. It takes the place of a
// checkpoint of the same round unless that one is whole and equal, as it is where a run
// ends at the round that it saved last.
func Write(ctx context.Context, st Store, s *State) (Manifest, error) {
	m := Manifest{Format: formatVersion, Round: s.Round, Step: s.Step, Tokens: s.Tokens, Worker: s.Worker, Meta: s.Meta}
	if err := s.check(); err != nil {
		return m, err
	}
	size, err := sizeOf(s)
	if err != nil {
		return m, err
	}
	err = st.Put(ctx, s.Round, size, func(add Add) error {
		m.Files = nil
		for _, part := range []struct {
			name    string
			vectors []Vector
			meta    map[string]string
		}{{modelFile, s.Model, pytorch}, {stateFile, s.Vectors, nil}} {
			f, err := addHashed(add, part.name, func(w io.Writer) error { return WriteTensors(w, part.vectors, part.meta) })
			if err != nil {
				return err
			}
			m.Files = append(m.Files, f)
		}
		text, err := m.encode()
		if err != nil {
			return err
		}
		sealed, reason := parseManifest(text)
		if reason != "" {
			return errors.New("checkpoint: a manifest that could not be read back: " + reason)
		}
		m = sealed
		if old, err := Check(ctx, st, s.Round); err == nil && sameContent(old, m) {
			return errEqual
		}
		return add(manifestFile, func(w io.Writer) error {
			_, err := w.Write(text)
			return err
		})
	})
	if errors.Is(err, errEqual) {
		err = nil
	}
	return m, err
}

// addHashed adds a file and describes it.
func addHashed(add Add, name string, content func(io.Writer) error) (File, error) {
	var h hashing
	err := add(name, func(w io.Writer) error {
		h = hashing{w: w, hash: sha256.New()}
		return content(&h)
	})
	if err != nil {
		return File{}, err
	}
	return File{name, h.bytes, hex.EncodeToString(h.hash.Sum(nil))}, nil
}

// hashing hashes and counts what it passes on.
type hashing struct {
	w     io.Writer
	hash  hash.Hash
	bytes int64
}

func (h *hashing) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	h.hash.Write(p[:n])
	h.bytes += int64(n)
	return n, err
}

func sameContent(a, b Manifest) bool {
	x, errX := a.encode()
	y, errY := b.encode()
	return errX == nil && errY == nil && string(x) == string(y)
}
