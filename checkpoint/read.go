package checkpoint

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
)

const readBufferBytes = 1 << 20

// Entry is one checkpoint in a store.
type Entry struct {
	Path     string // Store.Where of its round
	Round    uint64
	Manifest Manifest // empty when Err is set
	Err      error    // why the manifest or a file's size is wrong; hashes are for Check
}

// source is where the files of one checkpoint are read.
type source struct {
	path string // for errors
	open func(name string) (io.ReadCloser, int64, error)
}

func sourceIn(ctx context.Context, st Store, round uint64) source {
	return source{st.Where(round), func(name string) (io.ReadCloser, int64, error) { return st.Open(ctx, round, name) }}
}

// Read reads a checkpoint and compares every hash. Damage is a [CorruptError].
func Read(ctx context.Context, st Store, round uint64) (*State, error) {
	s, err := sourceIn(ctx, st, round).load()
	if err == nil && s.Round != round {
		err = wrongRound(st.Where(round), s.Round, round)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Check is Read without keeping the values.
func Check(ctx context.Context, st Store, round uint64) (Manifest, error) {
	m, err := sourceIn(ctx, st, round).verify()
	if err == nil && m.Round != round {
		err = wrongRound(st.Where(round), m.Round, round)
	}
	if err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// Entries describes the checkpoints in a store, oldest first, damaged ones with their Err.
// It compares sizes and no hashes.
func Entries(ctx context.Context, st Store) ([]Entry, error) {
	rounds, err := st.List(ctx)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, round := range rounds {
		entries = append(entries, entryIn(ctx, st, round))
	}
	return entries, nil
}

func entryIn(ctx context.Context, st Store, round uint64) Entry {
	e := Entry{Path: st.Where(round), Round: round}
	m, err := sourceIn(ctx, st, round).manifest()
	if err == nil && m.Round != round {
		err = wrongRound(e.Path, m.Round, round)
	}
	if err != nil {
		e.Err = err
	} else {
		e.Manifest = m
	}
	return e
}

func wrongRound(path string, got, want uint64) error {
	return &CorruptError{path, manifestFile, fmt.Sprintf("round %d in a folder of round %d", got, want)}
}

// Newest reads the newest checkpoint of all stores that verifies, and names the damaged
// ones that are newer. Of one round the one with more steps is newer; of equal ones it
// takes that of the earlier store, so name the faster store first. When there is none the
// error wraps [ErrNone].
func Newest(ctx context.Context, stores ...Store) (s *State, found Entry, skipped []*CorruptError, err error) {
	found, skipped, err = newest(ctx, stores, func(st Store, round uint64) error {
		var err error
		s, err = Read(ctx, st, round)
		return err
	})
	return s, found, skipped, err
}

func newest(ctx context.Context, stores []Store, try func(Store, uint64) error) (Entry, []*CorruptError, error) {
	type place struct {
		Entry
		store Store
	}
	var all []place
	var names []string
	for _, st := range stores {
		entries, err := Entries(ctx, st)
		if err != nil {
			return Entry{}, nil, err
		}
		for _, e := range entries {
			all = append(all, place{e, st})
		}
		names = append(names, strings.TrimSuffix(st.Where(0), RoundName(0)))
	}
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i], all[j]
		return a.Round > b.Round || a.Round == b.Round && a.Manifest.Step > b.Manifest.Step
	})
	var skipped []*CorruptError
	for _, e := range all {
		err := e.Err
		if err == nil {
			err = try(e.store, e.Round)
		}
		if err == nil {
			return e.Entry, skipped, nil
		}
		var damage *CorruptError
		if !errors.As(err, &damage) {
			return Entry{}, skipped, err
		}
		skipped = append(skipped, damage)
	}
	return Entry{}, skipped, fmt.Errorf("checkpoint: %s: %w (%d damaged)", strings.Join(names, ", "), ErrNone, len(skipped))
}

// load reads everything and compares every hash.
func (c source) load() (*State, error) {
	m, err := c.manifest()
	if err != nil {
		return nil, err
	}
	s := &State{Round: m.Round, Step: m.Step, Tokens: m.Tokens, Worker: m.Worker, Meta: m.Meta}
	for i, into := range []*[]Vector{&s.Model, &s.Vectors} {
		err := c.eachByte(m.Files[i], func(r io.Reader) error {
			vectors, _, err := ReadTensors(r, m.Files[i].Size)
			*into = vectors
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// verify is load without keeping the values.
func (c source) verify() (Manifest, error) {
	m, err := c.manifest()
	if err != nil {
		return Manifest{}, err
	}
	for _, f := range m.Files {
		if err := c.eachByte(f, func(io.Reader) error { return nil }); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}

// manifest reads the manifest and compares the sizes of the files that it names.
func (c source) manifest() (Manifest, error) {
	corrupt := func(file, reason string) (Manifest, error) { return Manifest{}, &CorruptError{c.path, file, reason} }
	f, size, err := c.open(manifestFile)
	if err != nil {
		return Manifest{}, c.classify(manifestFile, err)
	}
	defer f.Close()
	if size > manifestBytesMax {
		return corrupt(manifestFile, fmt.Sprintf("size: %d bytes, at most %d are allowed", size, manifestBytesMax))
	}
	text, err := io.ReadAll(io.LimitReader(f, manifestBytesMax))
	if err != nil {
		return Manifest{}, c.classify(manifestFile, err)
	}
	m, reason := parseManifest(text)
	if reason != "" {
		return corrupt(manifestFile, reason)
	}
	for _, want := range m.Files {
		f, size, err := c.open(want.Name)
		if err != nil {
			return Manifest{}, c.classify(want.Name, err)
		}
		_ = f.Close() // nothing was read
		if size != want.Size {
			return corrupt(want.Name, fmt.Sprintf("size: %d bytes, %d were written", size, want.Size))
		}
	}
	return m, nil
}

// eachByte lets read see a file and hashes every byte of it, read or not. A hash that
// differs explains more than what read stumbled over, so it is reported first.
func (c source) eachByte(want File, read func(io.Reader) error) error {
	f, _, err := c.open(want.Name)
	if err != nil {
		return c.classify(want.Name, err)
	}
	defer f.Close()
	h := sha256.New()
	buffered := bufio.NewReaderSize(io.LimitReader(f, want.Size), int(min(want.Size, readBufferBytes)))
	readErr := read(io.TeeReader(buffered, h))
	if _, err := io.Copy(h, buffered); err != nil {
		return c.classify(want.Name, err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != want.SHA256 {
		return &CorruptError{c.path, want.Name, "hash: SHA-256 is " + sum + ", " + want.SHA256 + " was written"}
	}
	if readErr != nil {
		return &CorruptError{c.path, want.Name, readErr.Error()}
	}
	return nil
}

// classify turns a missing file into damage. Any other error stays what it is, such as a
// missing permission.
func (c source) classify(file string, err error) error {
	if missing(err) {
		return &CorruptError{c.path, file, "missing"}
	}
	return fmt.Errorf("checkpoint: read %s of %s: %w", file, c.path, err)
}
