// Package storetest is the conformance suite of checkpoint.Store.
//
// A store's test describes the store as a [Subject] and calls [Run]. The suite fails and
// kills at every operation of the store's medium, damages and removes what is stored, and
// reads while a writer writes.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"loco/checkpoint"
)

// A Subject is one medium, empty at first, and the stores of one process after another on
// it.
type Subject struct {
	// Open returns the store of a new process. It calls step before each operation that
	// changes the medium (a write, an fsync, a rename, an upload, a delete ...) and, when
	// step returns an error, fails with it in the place of the operation, a write after
	// half of its bytes. die releases what the system takes from a process that ends, such
	// as its locks, without another step.
	Open func(step func(op string) error) (store checkpoint.Store, die func())
	// Change replaces the content of a stored file by what change makes of it, and removes
	// the file when that is nil.
	Change func(round uint64, name string, change func([]byte) []byte)
	// Plant puts things on the medium that are nobody's checkpoints, and returns a function
	// that fails the test unless they are as they were.
	Plant func() (untouched func())
	// Stray names what is on the medium and belongs to no complete checkpoint, without what
	// Plant put there.
	Stray func() []string
	// Exclusive stores refuse a second Lock.
	Exclusive bool
}

// Run tests a store. create returns a subject whose medium is new.
func Run(t *testing.T, create func(*testing.T) Subject) {
	for name, test := range map[string]func(*suite){
		"keeps every bit":           (*suite).keepsEveryBit,
		"lists in order":            (*suite).listsInOrder,
		"invisible until complete":  (*suite).invisibleUntilComplete,
		"replaces":                  (*suite).replaces,
		"removes":                   (*suite).removes,
		"refuses odd names":         (*suite).refusesOddNames,
		"names what is missing":     (*suite).namesWhatIsMissing,
		"finds damage":              (*suite).findsDamage,
		"leaves others' things":     (*suite).leavesForeignThings,
		"one writer":                (*suite).oneWriter,
		"streams":                   (*suite).streams,
		"readers beside the writer": (*suite).readersBesideTheWriter,
		"every operation fails":     (*suite).everyOperationFails,
	} {
		t.Run(name, func(t *testing.T) { test(&suite{t, create(t), create}) })
	}
}

type suite struct {
	*testing.T
	Subject
	create func(*testing.T) Subject
}

var ctx = context.Background()

func never(string) error { return nil }

// process opens and locks a store in which nothing fails. end unlocks it.
func (s *suite) process() (st checkpoint.Store, end func()) {
	s.Helper()
	st, die := s.Open(never)
	unlock, err := st.Lock(ctx)
	if err != nil {
		s.Fatalf("Lock: %v", err)
	}
	return st, func() {
		s.Helper()
		if err := unlock(); err != nil {
			s.Errorf("unlock: %v", err)
		}
		die()
	}
}

func (s *suite) put(st checkpoint.Store, state *checkpoint.State) {
	s.Helper()
	if _, err := checkpoint.Write(ctx, st, state); err != nil {
		s.Fatalf("Write: %v", err)
	}
}

// holds compares what is stored with the states wanted, in order of their rounds.
func (s *suite) holds(st checkpoint.Store, want ...*checkpoint.State) {
	s.Helper()
	var rounds []uint64
	for _, w := range want {
		rounds = append(rounds, w.Round)
		got, err := checkpoint.Read(ctx, st, w.Round)
		if err != nil {
			s.Errorf("Read: %v", err)
		} else if bits(got) != bits(w) {
			s.Errorf("round %d: read\n%s\nwant\n%s", w.Round, bits(got), bits(w))
		}
	}
	if got, err := st.List(ctx); err != nil || !slices.Equal(got, rounds) {
		s.Errorf("List: %v, %v, want %v", got, err, rounds)
	}
}

func (s *suite) keepsEveryBit() {
	st, end := s.process()
	want := Sample(7, 140)
	m, err := checkpoint.Write(ctx, st, want)
	if err != nil {
		s.Fatal(err)
	}
	s.holds(st, want)
	checked, err := checkpoint.Check(ctx, st, 7)
	if err != nil || !reflect.DeepEqual(checked, m) || m.Bytes() == 0 {
		s.Errorf("Check: %+v, %v, want %+v", checked, err, m)
	}
	for _, f := range m.Files {
		content, size, err := st.Open(ctx, 7, f.Name)
		if err != nil {
			s.Fatal(err)
		}
		b, err := io.ReadAll(content)
		if err != nil || content.Close() != nil || int64(len(b)) != size || size != f.Size {
			s.Errorf("%s: %d bytes, opened as %d, written %d (%v)", f.Name, len(b), size, f.Size, err)
		}
	}
	end()
	st, end = s.process() // the next process
	defer end()
	s.holds(st, want)
}

func (s *suite) listsInOrder() {
	st, end := s.process()
	defer end()
	s.holds(st)
	for _, round := range []uint64{10, 9, 123456789, 0, 100, 1<<64 - 1, 99999999, 100000000} {
		s.put(st, Sample(round, 1))
	}
	var want []*checkpoint.State
	for _, round := range []uint64{0, 9, 10, 100, 99999999, 100000000, 123456789, 1<<64 - 1} {
		want = append(want, Sample(round, 1))
	}
	s.holds(st, want...)
	places := map[string]bool{}
	for _, w := range want {
		places[st.Where(w.Round)] = true
	}
	if len(places) != len(want) {
		s.Errorf("%d rounds are in %d places", len(want), len(places))
	}
}

var errFill = errors.New("fill fails")

func (s *suite) invisibleUntilComplete() {
	st, end := s.process()
	defer end()
	old := Sample(2, 1)
	s.put(st, old)
	for _, round := range []uint64{1, 2} {
		err := st.Put(ctx, round, 1<<20, func(add checkpoint.Add) error {
			for _, name := range []string{"model.safetensors", "manifest.json"} {
				if err := add(name, func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }); err != nil {
					return err
				}
				s.holds(st, old)
			}
			if _, _, err := st.Open(ctx, 1, "manifest.json"); !errors.Is(err, fs.ErrNotExist) {
				s.Errorf("a file is visible before its checkpoint is complete: %v", err)
			}
			return errFill
		})
		if !errors.Is(err, errFill) {
			s.Errorf("Put returns %v, want the error of fill", err)
		}
		err = st.Put(ctx, round, 1<<20, func(add checkpoint.Add) error {
			return add("model.safetensors", func(w io.Writer) error {
				if _, err := io.WriteString(w, "half"); err != nil {
					return err
				}
				return errFill
			})
		})
		if !errors.Is(err, errFill) {
			s.Errorf("Put returns %v, want the error of content", err)
		}
		s.holds(st, old)
	}
	if left := s.Stray(); len(left) > 0 {
		s.Errorf("failed puts leave %q", left)
	}
}

func (s *suite) replaces() {
	st, end := s.process()
	defer end()
	other := Sample(6, 1)
	s.put(st, other)
	for _, step := range []uint64{1, 2, 2, 1} {
		s.put(st, Sample(5, step))
		s.holds(st, Sample(5, step), other)
	}
	if left := s.Stray(); len(left) > 0 {
		s.Errorf("replacements leave %q", left)
	}
}

func (s *suite) removes() {
	st, end := s.process()
	defer end()
	for round := range uint64(3) {
		s.put(st, Sample(round, 1))
	}
	for range 2 { // the second time it is not there
		if err := st.Remove(ctx, 1); err != nil {
			s.Errorf("Remove: %v", err)
		}
		s.holds(st, Sample(0, 1), Sample(2, 1))
	}
	if _, _, err := st.Open(ctx, 1, "manifest.json"); !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("Open of a removed checkpoint: %v", err)
	}
	if left := s.Stray(); len(left) > 0 {
		s.Errorf("removals leave %q", left)
	}
	s.put(st, Sample(1, 2))
	s.holds(st, Sample(0, 1), Sample(1, 2), Sample(2, 1))
}

func (s *suite) refusesOddNames() {
	st, end := s.process()
	defer end()
	text := func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err }
	for _, name := range []string{
		"", ".", "..", "../x", "/x", "a/b", `a\b`, "a:b", "a b", "a\x00b", "a\nb", "ü", "\xff", "A", "a*", "a?", "a%20b", ".hidden", "-x", "_x", "x.", "x-",
		strings.Repeat("x", 101),
	} {
		err := st.Put(ctx, 1, 1<<20, func(add checkpoint.Add) error { return add(name, text) })
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			s.Errorf("a file named %q: %v", name, err)
		}
		if _, _, err := st.Open(ctx, 1, name); err == nil {
			s.Errorf("a file named %q is opened", name)
		}
	}
	err := st.Put(ctx, 1, 1<<20, func(add checkpoint.Add) error { return errors.Join(add("same", text), add("same", text)) })
	if err == nil {
		s.Error("two files of one name are accepted")
	}
	s.holds(st)
	longest := strings.Repeat("x", 100)
	if err := st.Put(ctx, 1, 1<<20, func(add checkpoint.Add) error { return errors.Join(add(longest, text), add("a-1_b.c", text)) }); err != nil {
		s.Error(err)
	}
	for _, name := range []string{longest, "a-1_b.c"} {
		f, size, err := st.Open(ctx, 1, name)
		if err != nil || size != 1 {
			s.Errorf("%s: %d bytes, %v", name, size, err)
			continue
		}
		_ = f.Close()
	}
}

func (s *suite) namesWhatIsMissing() {
	st, die := s.Open(never)
	defer die()
	if got, err := st.List(ctx); err != nil || len(got) > 0 { // before the first Lock
		s.Errorf("List of nothing: %v, %v", got, err)
	}
	unlock, err := st.Lock(ctx)
	if err != nil {
		s.Fatal(err)
	}
	defer unlock()
	s.put(st, Sample(1, 1))
	for _, missing := range []struct {
		round uint64
		name  string
	}{{1, "none"}, {2, "manifest.json"}} {
		if _, _, err := st.Open(ctx, missing.round, missing.name); !errors.Is(err, fs.ErrNotExist) {
			s.Errorf("Open of %s in round %d: %v", missing.name, missing.round, err)
		}
	}
	var damage *checkpoint.CorruptError
	if _, err := checkpoint.Read(ctx, st, 2); !errors.As(err, &damage) || damage.Path != st.Where(2) || damage.File != "manifest.json" || damage.Reason != "missing" {
		s.Errorf("Read of a round that is not there: %v", err)
	}
}

func (s *suite) findsDamage() {
	st, end := s.process()
	defer end()
	good, bad := Sample(1, 1), Sample(2, 1)
	s.put(st, good)
	s.put(st, bad)
	changes := map[string]func([]byte) []byte{
		"missing": func([]byte) []byte { return nil },
		"empty":   func([]byte) []byte { return []byte{} },
		"cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"grown":   func(b []byte) []byte { return append(b, 0) },
	}
	for _, part := range []float64{0, 0.1, 0.3, 0.5, 0.7, 0.9, 1} {
		changes[fmt.Sprintf("bit flipped at %g", part)] = func(b []byte) []byte {
			b[int(part*float64(len(b)-1))] ^= 1
			return b
		}
	}
	for _, name := range []string{"model.safetensors", "state.safetensors", "manifest.json"} {
		for what, change := range changes {
			s.Change(2, name, func(b []byte) []byte { return change(bytes.Clone(b)) })
			var damage *checkpoint.CorruptError
			if _, err := checkpoint.Read(ctx, st, 2); !errors.As(err, &damage) || damage.File != name || damage.Path != st.Where(2) {
				s.Errorf("%s %s: Read returns %v", name, what, err)
			}
			if _, err := checkpoint.Check(ctx, st, 2); !errors.As(err, &damage) || damage.File != name || damage.Path != st.Where(2) {
				s.Errorf("%s %s: Check returns %v", name, what, err)
			}
			got, found, skipped, err := checkpoint.Newest(ctx, st)
			if err != nil || bits(got) != bits(good) || found.Path != st.Where(1) || len(skipped) != 1 || skipped[0].File != name {
				s.Errorf("%s %s: Newest is %s, %v, %v", name, what, found.Path, skipped, err)
			}
			s.put(st, bad) // heals it
			s.holds(st, good, bad)
		}
	}
	if left := s.Stray(); len(left) > 0 {
		s.Errorf("healing leaves %q", left)
	}
}

func (s *suite) leavesForeignThings() {
	st, end := s.process()
	s.put(st, Sample(1, 1))
	end()
	untouched := s.Plant()
	st, end = s.process()
	s.put(st, Sample(1, 2))
	s.put(st, Sample(2, 1))
	s.holds(st, Sample(1, 2), Sample(2, 1))
	if err := st.Remove(ctx, 1); err != nil {
		s.Error(err)
	}
	end()
	untouched()
}

func (s *suite) oneWriter() {
	st, end := s.process()
	s.put(st, Sample(1, 1))
	if s.Exclusive {
		second, die := s.Open(never)
		if unlock, err := second.Lock(ctx); err == nil {
			s.Errorf("a second writer gets the lock (%v)", unlock())
		}
		s.holds(second, Sample(1, 1)) // and may read
		die()
	}
	s.put(st, Sample(2, 1))
	end()
	st, end = s.process()
	defer end()
	s.holds(st, Sample(1, 1), Sample(2, 1))
}

// streams puts and reads a file that a store must not hold as a whole.
func (s *suite) streams() {
	st, end := s.process()
	defer end()
	const pieces, pieceBytes = 512, 64 << 10
	piece := bytes.Repeat([]byte("0123456789abcdef"), pieceBytes/16)
	used := allocatedBy(func() {
		err := st.Put(ctx, 1, pieces*pieceBytes, func(add checkpoint.Add) error {
			return add("large", func(w io.Writer) error {
				for range pieces {
					if n, err := w.Write(piece); err != nil || n != len(piece) {
						return fmt.Errorf("%d of %d bytes: %w", n, len(piece), err)
					}
				}
				return nil
			})
		})
		if err != nil {
			s.Fatal(err)
		}
		f, size, err := st.Open(ctx, 1, "large")
		if err != nil || size != pieces*pieceBytes {
			s.Fatalf("%d bytes, %v", size, err)
		}
		defer f.Close()
		got := make([]byte, pieceBytes)
		for range pieces {
			if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, piece) {
				s.Fatalf("read differs: %v", err)
			}
		}
		if n, err := f.Read(got); n > 0 || err != io.EOF {
			s.Errorf("%d bytes after the end, %v", n, err)
		}
	})
	if used > pieces*pieceBytes/2 {
		s.Errorf("a file of %d bytes allocates %d", pieces*pieceBytes, used)
	}
}

// readersBesideTheWriter reads while rounds come, go and are replaced. A round that nobody
// touches is always whole; of the others a reader sees one state of them or an error.
func (s *suite) readersBesideTheWriter() {
	st, end := s.process()
	defer end()
	s.put(st, Sample(0, 1))
	done := make(chan struct{})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			reader, die := s.Open(never)
			defer die()
			for {
				s.readAll(reader)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range uint64(20) {
		s.put(st, Sample(1+i%3, i))
		if i%2 == 1 {
			if err := st.Remove(ctx, 1+(i+1)%3); err != nil {
				s.Error(err)
			}
		}
	}
	close(done)
	all.Wait()
}

func (s *suite) readAll(st checkpoint.Store) {
	rounds, err := st.List(ctx)
	if err != nil || !slices.Contains(rounds, 0) || !slices.IsSorted(rounds) {
		s.Errorf("List beside the writer: %v, %v", rounds, err)
	}
	for _, round := range rounds {
		got, err := checkpoint.Read(ctx, st, round)
		var damage *checkpoint.CorruptError
		switch {
		case err == nil && bits(got) != bits(Sample(round, got.Step)):
			s.Errorf("a reader sees round %d as it never was", round)
		case err != nil && (round == 0 || !errors.As(err, &damage)):
			s.Errorf("Read of round %d beside the writer: %v", round, err)
		}
	}
}
