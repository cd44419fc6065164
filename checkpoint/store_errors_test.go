package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Every file that is opened is closed, and every error of a store is what a reader gets.
func TestErrorsOfReading(t *testing.T) {
	ctx := context.Background()
	st := &fakeStore{name: "fake"}
	st.write(t, sample(1))
	st.write(t, sample(2))
	for _, op := range []string{"", "open", "read"} {
		for _, file := range []string{modelFile, stateFile, manifestFile} {
			st.fail = map[string]error{op + " " + file: errInjected}
			for what, read := range map[string]func() error{
				"Read":   func() error { _, err := Read(ctx, st, 2); return err },
				"Check":  func() error { _, err := Check(ctx, st, 2); return err },
				"Newest": func() error { _, _, _, err := Newest(ctx, st); return err },
			} {
				err := read()
				if op == "" && err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if op != "" && (!errors.Is(err, errInjected) || !strings.Contains(err.Error(), file+" of fake/round-00000002")) {
					t.Errorf("%s of %s fails: %s returns %v", op, file, what, err)
				}
				if st.opened != 0 {
					t.Fatalf("%s of %s fails: %s leaves %d files open", op, file, what, st.opened)
				}
			}
		}
	}
	st.fail = map[string]error{"list": errInjected}
	if _, err := Entries(ctx, st); !errors.Is(err, errInjected) {
		t.Errorf("Entries: %v", err)
	}
	if _, _, _, err := Newest(ctx, &fakeStore{}, st); !errors.Is(err, errInjected) {
		t.Errorf("Newest: %v", err)
	}
	_, _, _, err := Newest(ctx, &fakeStore{name: "one"}, &fakeStore{name: "two"})
	if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "one/, two/: no valid checkpoint (0 damaged)") {
		t.Errorf("Newest of nothing: %v", err)
	}
}

// A checkpoint under another round's name is damaged.
func TestTheWrongRound(t *testing.T) {
	ctx := context.Background()
	st := &fakeStore{name: "fake"}
	st.write(t, sample(2))
	st.rounds[9] = st.rounds[2]
	for what, read := range map[string]func() error{
		"Read":  func() error { s, err := Read(ctx, st, 9); return errors.Join(err, must(s == nil)) },
		"Check": func() error { m, err := Check(ctx, st, 9); return errors.Join(err, must(m.Files == nil)) },
		"Entries": func() error {
			e, err := Entries(ctx, st)
			return errors.Join(err, e[1].Err, must(e[1].Manifest.Files == nil))
		},
	} {
		var damage *CorruptError
		if err := read(); !errors.As(err, &damage) || damage.File != manifestFile || damage.Path != "fake/round-00000009" || damage.Reason != "round 2 in a folder of round 9" {
			t.Errorf("%s: %v", what, err)
		}
	}
	s, found, skipped, err := Newest(ctx, st)
	if err != nil || s.Round != 2 || found.Round != 2 || len(skipped) != 1 {
		t.Errorf("Newest: %+v, %v, %v", found, skipped, err)
	}
}

func must(ok bool) error {
	if !ok {
		return errors.New("a result beside the error")
	}
	return nil
}

func TestErrorsOfWriting(t *testing.T) {
	ctx := context.Background()
	for _, file := range []string{modelFile, stateFile, manifestFile} {
		st := &fakeStore{fail: map[string]error{"add " + file: errInjected}}
		if _, err := Write(ctx, st, sample(1)); !errors.Is(err, errInjected) || len(st.rounds) > 0 {
			t.Errorf("%s cannot be added: %v", file, err)
		}
	}
	st := &fakeStore{}
	for want, s := range map[string]*State{
		"there twice":          {Vectors: []Vector{{"a", nil, []float32{1}}, {"a", nil, []float32{1}}}},
		"must not be negative": {Worker: -1},
		"put less in meta":     {Meta: map[string]string{"k": strings.Repeat("x", manifestBytesMax)}},
	} {
		if _, err := Write(ctx, st, s); err == nil || !strings.Contains(err.Error(), want) || len(st.rounds) > 0 {
			t.Errorf("%s: %v", want, err)
		}
	}
	// An equal checkpoint stays, a damaged one and another one do not.
	first := st.write(t, sample(1))
	kept := st.rounds[1]
	if again := st.write(t, sample(1)); again.SHA256 != first.SHA256 || &st.rounds[1][manifestFile][0] != &kept[manifestFile][0] {
		t.Error("an equal checkpoint is written again")
	}
	kept[modelFile][len(kept[modelFile])-1] ^= 1
	st.write(t, sample(1))
	if _, err := Check(ctx, st, 1); err != nil {
		t.Error(err)
	}
}

func TestStagesAreChecked(t *testing.T) {
	good := Stage{Name: "a", Store: &fakeStore{}, Keep: 1}
	for want, change := range map[string]func(*Stage){
		"":             func(*Stage) {},
		`stage ""`:     func(s *Stage) { s.Name = "" },
		"a store":      func(s *Stage) { s.Store = nil },
		"keep -1":      func(s *Stage) { s.Keep = -1 },
		"keep -2":      func(s *Stage) { s.Keep, s.Optional = -2, true },
		"every -1":     func(s *Stage) { s.KeepEvery = -1 },
		"at least 1 (": func(s *Stage) { s.Keep = 0 },
		"not optional": func(s *Stage) { s.Optional = true },
	} {
		s := good
		change(&s)
		w, err := New(Config{Stages: []Stage{s}})
		if want == "" {
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Close(limit(t)); err != nil {
				t.Error(err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "a stage is needed") {
		t.Errorf("no stages: %v", err)
	}
	transit := Stage{Name: "t", Store: &fakeStore{}, Optional: true}
	w, err := New(Config{Stages: []Stage{transit, good}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(limit(t)); err != nil {
		t.Error(err)
	}
}

func TestStagesAreLockedFromTheLast(t *testing.T) {
	first, middle, last := &fakeStore{name: "first"}, &fakeStore{name: "middle"}, &fakeStore{name: "last"}
	stages := []Stage{{Name: "1", Store: first, Keep: 1}, {Name: "2", Store: middle, Optional: true}, {Name: "3", Store: last, Keep: 1}}
	first.fail = map[string]error{"lock": errInjected}
	last.fail = map[string]error{"unlock": errors.New("unlock fails")}
	_, err := New(Config{Stages: stages})
	if !errors.Is(err, errInjected) || !strings.Contains(err.Error(), "unlock fails") || last.locked || middle.locked {
		t.Errorf("the first stage cannot be locked: %v; middle locked %v, last %v", err, middle.locked, last.locked)
	}
	first.fail, middle.fail, last.fail = nil, map[string]error{"lock": errInjected}, nil
	var r record
	w, err := New(Config{Stages: stages, Observe: r.add})
	if err != nil {
		t.Fatal(err)
	}
	if n, e := r.count(string(Skipped)); n != 1 || e.Stage != "2" || e.Path != "middle" || !errors.Is(e.Err, errInjected) {
		t.Errorf("%d skipped, %+v", n, e)
	}
	if err := save(t, w, sample(1)); err != nil {
		t.Fatal(err)
	}
	if len(first.rounds) != 1 || len(middle.rounds) != 0 || len(last.rounds) != 1 {
		t.Error("a snapshot goes through every stage that is locked, and no other")
	}
	if err := w.Close(limit(t)); err != nil || first.locked || last.locked {
		t.Errorf("Close: %v; first locked %v, last %v", err, first.locked, last.locked)
	}
}

// Each stage is written though another failed. What is optional fails no snapshot.
func TestAStageFails(t *testing.T) {
	for _, failing := range []int{0, 1, 2} {
		stores := []*fakeStore{{name: "s0"}, {name: "s1"}, {name: "s2"}}
		stores[failing].fail = map[string]error{"add " + stateFile: errInjected}
		var r record
		w, err := New(Config{Observe: r.add, Stages: []Stage{
			{Name: "memory", Store: stores[0], Optional: true}, {Name: "disk", Store: stores[1], Keep: 2}, {Name: "far", Store: stores[2], Keep: 1, Optional: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := save(t, w, sample(1)); (failing == 1) != errors.Is(err, errInjected) || failing != 1 && err != nil {
			t.Errorf("stage %d fails: %v", failing, err)
		}
		for i, st := range stores {
			if want := i != failing; (len(st.rounds) == 1) != want {
				t.Errorf("stage %d fails: stage %d holds %d", failing, i, len(st.rounds))
			}
		}
		n, e := r.count(string(Skipped))
		if (n == 1) != (failing != 1) || n == 1 && (!errors.Is(e.Err, errInjected) || e.Round != 1 || e.Path != fmt.Sprintf("s%d/round-00000001", failing)) {
			t.Errorf("stage %d fails: %d skipped, %+v", failing, n, e)
		}
		n, e = r.count("disk")
		if n != 1 || (e.Bytes == 0) != (failing == 1) || errors.Is(e.Err, errInjected) != (failing == 1) || e.Path != "s1/round-00000001" {
			t.Errorf("stage %d fails: %d written, %+v", failing, n, e)
		}
		if _, pruned := r.count(string(Pruned)); pruned.Err != nil || strings.HasSuffix(pruned.Path, "/") {
			t.Errorf("pruned: %+v", pruned)
		}
		_ = w.Close(limit(t))
		// What was in transit goes when a later stage has it.
		if len(stores[0].rounds) != 0 {
			t.Errorf("stage %d fails: the copy in memory stays", failing)
		}
	}
}

func TestTransit(t *testing.T) {
	memory, disk := &fakeStore{name: "memory"}, &fakeStore{name: "disk"}
	stages := []Stage{{Name: "m", Store: memory, Optional: true}, {Name: "d", Store: disk, Keep: 9}}
	start := func() (*Writer, *record) {
		t.Helper()
		r := new(record)
		w, err := New(Config{Stages: stages, Observe: r.add})
		if err != nil {
			t.Fatal(err)
		}
		return w, r
	}
	held := func(what string, want ...uint64) {
		t.Helper()
		if got, _ := memory.List(context.Background()); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: memory holds %v, want %v", what, got, want)
		}
	}
	w, r := start()
	memory.write(t, sample(9)) // of a future that the run went back from
	for round := uint64(1); round <= 2; round++ {
		if err := save(t, w, sample(round)); err != nil {
			t.Fatal(err)
		}
		held("the newest alone", round)
	}
	// Room is made of what the disk has.
	memory.room = 1
	if err := save(t, w, sample(3)); err != nil {
		t.Fatal(err)
	}
	held("room for one", 3)
	if n, e := r.count(string(Skipped)); n > 0 {
		t.Errorf("skipped: %+v", e)
	}
	// A copy that the disk does not have is not given up for a newer one.
	disk.fail = map[string]error{"add " + modelFile: errInjected}
	memory.room = 0
	if err := save(t, w, sample(4)); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	memory.room = 1
	if err := save(t, w, sample(5)); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	held("no room", 4)
	if n, e := r.count(string(Skipped)); n != 1 || !errors.Is(e.Err, ErrNoRoom) || e.Round != 5 {
		t.Errorf("%d skipped: %+v", n, e)
	}
	if err := w.Close(limit(t)); !errors.Is(err, errInjected) {
		t.Errorf("Close: %v", err)
	}
	held("the only copy", 4)

	// The disk has an older state of the round: that is not the same checkpoint.
	disk.fail, memory.room = nil, 0
	disk.write(t, sample(4))
	further := sample(4)
	further.Step++
	memory.write(t, further)
	w, _ = start()
	if s, found, _, err := w.Newest(context.Background()); err != nil || s.Step != further.Step || found.Path != memory.Where(4) {
		t.Errorf("Newest: %+v, %v", found, err)
	}
	if err := w.Close(limit(t)); err != nil {
		t.Error(err)
	}
	held("the only copy of these steps", 4)
	disk.write(t, further)
	w, _ = start()
	if err := w.Close(limit(t)); err != nil {
		t.Error(err)
	}
	held("the disk has it")

	// A damaged copy is given up when the disk has the round at all.
	memory.write(t, sample(4))
	memory.write(t, sample(8))
	delete(memory.rounds[4], stateFile)
	delete(memory.rounds[8], stateFile)
	w, _ = start()
	if err := w.Close(limit(t)); err != nil {
		t.Error(err)
	}
	held("damaged copies", 8)
}

func TestErrorsOfPruning(t *testing.T) {
	for _, op := range []string{"list", "remove"} {
		st := &fakeStore{name: "disk"}
		var r record
		var lines strings.Builder
		w, err := New(Config{Stages: []Stage{{Name: "d", Store: st, Keep: 1}}, Observe: r.add, Log: logTo(&lines)})
		if err != nil {
			t.Fatal(err)
		}
		if err := save(t, w, sample(1)); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(lines.String(), "WARN") {
			t.Errorf("a warning: %s", lines.String())
		}
		st.fail = map[string]error{op: errInjected}
		if err := save(t, w, sample(2)); err != nil {
			t.Errorf("%s fails: %v, though the new checkpoint is there", op, err)
		}
		if n, e := r.count(string(Pruned)); n != 2 || !errors.Is(e.Err, errInjected) || e.Path != "disk" || e.Round != 2 {
			t.Errorf("%s fails: %d pruned, %+v", op, n, e)
		}
		if !strings.Contains(lines.String(), "WARN") || !strings.Contains(lines.String(), "old ones stay") {
			t.Errorf("%s fails: no warning in %s", op, lines.String())
		}
		_ = w.Close(limit(t))
	}
}

func TestErrorsAtTheEnd(t *testing.T) {
	for _, op := range []string{"", "list", "remove", "unlock"} {
		memory, disk := &fakeStore{name: "memory"}, &fakeStore{name: "disk"}
		var lines strings.Builder
		w, err := New(Config{Stages: []Stage{{Name: "m", Store: memory, Optional: true}, {Name: "d", Store: disk, Keep: 1}}, Log: logTo(&lines)})
		if err != nil {
			t.Fatal(err)
		}
		if err := save(t, w, sample(1)); err != nil {
			t.Fatal(err)
		}
		memory.fail = map[string]error{op: errInjected}
		if err := w.Close(limit(t)); err != nil || memory.locked || disk.locked {
			t.Errorf("%s fails: Close: %v, locked %v, %v", op, err, memory.locked, disk.locked)
		}
		if got := strings.Contains(lines.String(), "not cleaned up"); got != (op != "") {
			t.Errorf("%s fails: the log says %s", op, lines.String())
		}
	}
}
