package checkpoint

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// logTo is a logger to a text. The writer is its only user, and idle when a test reads it.
func logTo(lines *strings.Builder) *slog.Logger {
	return slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// fakeStore keeps checkpoints in a map, and fails where a test says.
type fakeStore struct {
	name   string
	rounds map[uint64]map[string][]byte
	fail   map[string]error // by method, "open NAME" and "read NAME" for a file
	room   int              // checkpoints that fit; 0 is no limit
	locked bool
	opened int // files that are open
}

func (f *fakeStore) Lock(context.Context) (func() error, error) {
	if err := f.fail["lock"]; err != nil {
		return nil, err
	}
	f.locked = true
	return func() error {
		f.locked = false
		return f.fail["unlock"]
	}, nil
}

func (f *fakeStore) Put(_ context.Context, round uint64, _ int64, fill func(Add) error) error {
	if f.room > 0 && len(f.rounds) >= f.room {
		return fmt.Errorf("fake: %w", ErrNoRoom)
	}
	files := map[string][]byte{}
	err := fill(func(name string, content func(io.Writer) error) error {
		if err := f.fail["add "+name]; err != nil {
			return err
		}
		var b bytes.Buffer
		err := content(&b)
		files[name] = b.Bytes()
		return err
	})
	if err != nil {
		return err
	}
	if f.rounds == nil {
		f.rounds = map[uint64]map[string][]byte{}
	}
	f.rounds[round] = files
	return nil
}

type fakeFile struct {
	io.Reader
	store *fakeStore
}

func (f *fakeFile) Close() error {
	f.store.opened--
	return nil
}

func (f *fakeStore) Open(_ context.Context, round uint64, name string) (io.ReadCloser, int64, error) {
	b, ok := f.rounds[round][name]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	if err := f.fail["open "+name]; err != nil {
		return nil, 0, err
	}
	f.opened++
	var r io.Reader = bytes.NewReader(b)
	if err := f.fail["read "+name]; err != nil {
		r = iotest.ErrReader(err)
	}
	return &fakeFile{r, f}, int64(len(b)), nil
}

func (f *fakeStore) List(context.Context) ([]uint64, error) {
	return slices.Sorted(maps.Keys(f.rounds)), f.fail["list"]
}

func (f *fakeStore) Remove(_ context.Context, round uint64) error {
	if err := f.fail["remove"]; err != nil {
		return err
	}
	delete(f.rounds, round)
	return nil
}

func (f *fakeStore) Where(round uint64) string { return f.name + "/" + RoundName(round) }

func (f *fakeStore) write(t *testing.T, s *State) Manifest {
	t.Helper()
	m, err := Write(context.Background(), f, s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
