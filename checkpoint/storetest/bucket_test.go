package storetest_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"loco/checkpoint"
	"loco/checkpoint/atomicfile"
	"loco/checkpoint/storetest"
)

// A bucket is an object store: whole objects are put, read, listed and deleted by key, and
// nothing is renamed. It shows that such a store fits the interface and passes the suite.
//
//	round-00000012/3f9c04d1/model.safetensors   the files of one upload
//	round-00000012/current                      the upload that is the checkpoint
type bucket struct {
	dir    string // an object is a file of it
	locked bool
}

func (b *bucket) file(key string) string { return filepath.Join(b.dir, url.PathEscape(key)) }

func (b *bucket) keys() ([]string, error) {
	items, err := os.ReadDir(b.dir)
	var keys []string
	for _, item := range items {
		if key, err := url.PathUnescape(item.Name()); err == nil && !strings.HasPrefix(key, atomicfile.TempPrefix) {
			keys = append(keys, key)
		}
	}
	return keys, err
}

// bucketStore is one process's store in a bucket.
type bucketStore struct {
	*bucket
	step func(string) error
	mine bool
}

func (s *bucketStore) Where(round uint64) string { return "bucket://" + checkpoint.RoundName(round) }

// upload is the one that is a round's checkpoint.
func (b *bucket) upload(round uint64) (string, error) {
	id, err := os.ReadFile(b.file(checkpoint.RoundName(round) + "/current"))
	return string(id), err
}

// parts of a key, or false for what is nobody's checkpoint.
func parts(key string) (round uint64, upload string, ok bool) {
	dir, file := path.Split(key)
	dir = strings.TrimSuffix(dir, "/")
	name, upload, _ := strings.Cut(dir, "/")
	round, ok = checkpoint.ParseRoundName(name)
	id, err := hex.DecodeString(upload)
	return round, upload, ok && (file == "current" && upload == "" || err == nil && len(id) == 4)
}

// stray lists the objects of uploads that are no checkpoint.
func (b *bucket) stray() (list []string, err error) {
	keys, err := b.keys()
	for _, key := range keys {
		if round, upload, ok := parts(key); ok && upload != "" {
			if current, err := b.upload(round); err != nil || current != upload {
				list = append(list, key)
			}
		}
	}
	return list, err
}

func (s *bucketStore) delete(keys []string) (err error) {
	for _, key := range keys {
		if err = s.step("delete " + key); err == nil {
			err = os.Remove(s.file(key))
		}
		if err != nil {
			break
		}
	}
	return err
}

func (s *bucketStore) Lock(context.Context) (func() error, error) {
	if s.locked {
		return nil, errors.New("bucket: another writer has the lock")
	}
	stray, err := s.stray()
	if err == nil {
		err = s.delete(stray)
	}
	if err != nil {
		return nil, err
	}
	s.locked, s.mine = true, true
	return func() error { s.die(); return nil }, nil
}

func (s *bucketStore) die() {
	if s.mine {
		s.locked, s.mine = false, false
	}
}

// part is one piece of an upload.
type part struct {
	w    io.Writer
	step func(string) error
}

func (p part) Write(b []byte) (int, error) {
	if err := p.step("part"); err != nil {
		n, _ := p.w.Write(b[:len(b)/2])
		return n, err
	}
	return p.w.Write(b)
}

func (s *bucketStore) put(key string, content func(io.Writer) error) error {
	return atomicfile.Write(s.file(key), 0o600, func(w io.Writer) error {
		if err := content(part{w, s.step}); err != nil {
			return err
		}
		return s.step("complete " + key)
	})
}

func (s *bucketStore) Put(_ context.Context, round uint64, _ int64, fill func(checkpoint.Add) error) error {
	name := checkpoint.RoundName(round)
	var id [4]byte
	rand.Read(id[:])
	upload := hex.EncodeToString(id[:])
	added := map[string]bool{}
	err := fill(func(file string, content func(io.Writer) error) error {
		if err := checkpoint.CheckName(file); err != nil {
			return err
		}
		if added[file] {
			return fmt.Errorf("bucket: %s is there twice", file)
		}
		added[file] = true
		return s.put(path.Join(name, upload, file), content)
	})
	if err == nil {
		err = s.put(name+"/current", func(w io.Writer) error { _, err := io.WriteString(w, upload); return err })
	}
	stray, strayErr := s.stray() // of this upload, or of the one that it replaces
	return errors.Join(err, strayErr, s.delete(stray))
}

func (s *bucketStore) Open(_ context.Context, round uint64, name string) (io.ReadCloser, int64, error) {
	if err := checkpoint.CheckName(name); err != nil {
		return nil, 0, err
	}
	upload, err := s.upload(round)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(s.file(path.Join(checkpoint.RoundName(round), upload, name)))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func (s *bucketStore) List(context.Context) ([]uint64, error) {
	keys, err := s.keys()
	var rounds []uint64
	for _, key := range keys {
		if round, upload, ok := parts(key); ok && upload == "" {
			rounds = append(rounds, round)
		}
	}
	slices.Sort(rounds)
	return rounds, err
}

func (s *bucketStore) Remove(_ context.Context, round uint64) error {
	if _, err := s.upload(round); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := s.delete([]string{checkpoint.RoundName(round) + "/current"}); err != nil {
		return err
	}
	stray, err := s.stray()
	return errors.Join(err, s.delete(stray))
}

func TestAnObjectStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		b := &bucket{dir: t.TempDir()}
		return storetest.Subject{
			Exclusive: true,
			Open: func(step func(string) error) (checkpoint.Store, func()) {
				s := &bucketStore{bucket: b, step: step}
				return s, s.die
			},
			Change: func(round uint64, name string, change func([]byte) []byte) {
				upload, err := b.upload(round)
				if err != nil {
					t.Fatal(err)
				}
				file := b.file(path.Join(checkpoint.RoundName(round), upload, name))
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if data = change(data); data == nil {
					err = os.Remove(file)
				} else {
					err = os.WriteFile(file, data, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			},
			Plant: func() func() {
				foreign := []string{"notes", "round-7/current", "round-00000001/mine/notes", "round-00000001x/current"}
				for _, key := range foreign {
					if err := os.WriteFile(b.file(key), []byte(key), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				return func() {
					for _, key := range foreign {
						if data, err := os.ReadFile(b.file(key)); err != nil || string(data) != key {
							t.Errorf("%s holds %q, %v", key, data, err)
						}
					}
				}
			},
			Stray: func() []string {
				stray, err := b.stray()
				if err != nil {
					t.Fatal(err)
				}
				return stray
			},
		}
	})
}
