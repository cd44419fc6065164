package checkpoint

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

const readBufferBytes = 1 << 20

// Entry is one checkpoint in a folder.
type Entry struct {
	Path     string
	Round    uint64
	Manifest Manifest // empty when Err is set
	Err      error    // why the manifest or a file's size is wrong; hashes are for Verify
}

// Load reads a checkpoint and checks every hash. Damage is a *CorruptError.
func Load(path string) (*State, error) {
	m, err := readManifest(path)
	if err != nil {
		return nil, err
	}
	s := &State{Round: m.Round, Step: m.Step, Tokens: m.Tokens, Worker: m.Worker, Meta: m.Meta}
	for i, into := range []*[]Vector{&s.Model, &s.Vectors} {
		err := eachByte(path, m.Files[i], func(r io.Reader) error {
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

// Verify reads a whole checkpoint and compares every hash, without keeping it in
// memory. Damage is a *CorruptError.
func Verify(path string) (Manifest, error) {
	m, err := readManifest(path)
	if err != nil {
		return Manifest{}, err
	}
	for _, f := range m.Files {
		if err := eachByte(path, f, func(io.Reader) error { return nil }); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}

// eachByte lets read see a file and hashes every byte of it, read or not. A hash that
// differs explains more than what read stumbled over, so it is reported first.
func eachByte(path string, want File, read func(io.Reader) error) error {
	f, _, err := openRegular(filepath.Join(path, want.Name))
	if err != nil {
		_, err = classify(path, want.Name, err)
		return err
	}
	defer f.Close()
	h := sha256.New()
	limited := io.LimitReader(f, want.Size)
	buffered := bufio.NewReaderSize(limited, readBufferBytes)
	readErr := read(io.TeeReader(buffered, h))
	if _, err := io.Copy(h, buffered); err != nil {
		return fmt.Errorf("checkpoint: read %s: %w", filepath.Join(path, want.Name), err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != want.SHA256 {
		return &CorruptError{path, want.Name, "hash: SHA-256 is " + sum + ", " + want.SHA256 + " was written"}
	}
	if readErr != nil {
		return &CorruptError{path, want.Name, readErr.Error()}
	}
	return nil
}

// List returns the checkpoints in a folder, oldest first, damaged ones with their Err.
// It compares sizes but no hashes. A folder that does not exist holds none.
func List(dir string) ([]Entry, error) {
	items, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("checkpoint: list: %w", err)
	}
	var entries []Entry
	for _, item := range items {
		round, ok := parseName(item.Name())
		if !ok || !item.IsDir() {
			continue
		}
		e := Entry{Path: filepath.Join(dir, item.Name()), Round: round}
		e.Manifest, e.Err = readManifest(e.Path)
		if e.Err == nil && e.Manifest.Round != round {
			e.Err = &CorruptError{e.Path, manifestFile, fmt.Sprintf("round %d in a folder of round %d", e.Manifest.Round, round)}
		}
		entries = append(entries, e)
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Round < entries[j].Round })
	return entries, nil
}

// Latest returns the newest checkpoint of all roots that verifies, and what was
// skipped before it was found. Among equal rounds the earlier root wins, so name the
// faster one first. When there is none the error wraps [ErrNone].
func Latest(roots ...string) (path string, skipped []*CorruptError, err error) {
	return newest(roots, func(path string) error {
		_, err := Verify(path)
		return err
	})
}

// LoadLatest is Latest and Load in one reading.
func LoadLatest(roots ...string) (s *State, path string, skipped []*CorruptError, err error) {
	path, skipped, err = newest(roots, func(path string) (err error) {
		s, err = Load(path)
		return err
	})
	return s, path, skipped, err
}

func newest(roots []string, try func(path string) error) (string, []*CorruptError, error) {
	var all []Entry
	for _, root := range roots {
		entries, err := List(root)
		if err != nil {
			return "", nil, err
		}
		all = append(all, entries...)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Round > all[j].Round })
	var skipped []*CorruptError
	for _, e := range all {
		err := e.Err
		if err == nil {
			err = try(e.Path)
		}
		if err == nil {
			return e.Path, skipped, nil
		}
		var damage *CorruptError
		if !errors.As(err, &damage) {
			return "", skipped, err
		}
		skipped = append(skipped, damage)
	}
	return "", skipped, fmt.Errorf("checkpoint: %s: %w (%d damaged)", strings.Join(roots, ", "), ErrNone, len(skipped))
}

func folderName(round uint64) string { return fmt.Sprintf("round-%08d", round) }

func parseName(name string) (round uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, "round-")
	if !ok {
		return 0, false
	}
	round, err := strconv.ParseUint(digits, 10, 64)
	return round, err == nil && folderName(round) == name
}
