package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sample is a state with bits that a careless copy would change.
func sample(round uint64) *State {
	odd := []float32{
		0, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, math.MaxFloat32, float32(math.Inf(-1)),
		math.Float32frombits(0x7fc12345), math.Float32frombits(0xff812345), math.Float32frombits(0x007fffff), float32(round),
	}
	long := make([]float32, chunkValues+3)
	for i := range long {
		long[i] = float32(i) + float32(round)/3
	}
	return &State{
		Round: round, Step: 20 * round, Tokens: math.MaxUint64 - round, Worker: 3,
		Model:   []Vector{{"model.norm.weight", []int{2, 5}, odd}, {"a<b>&\"ü", []int{len(long)}, long}},
		Vectors: []Vector{{"outer/momentum", []int{5, 2}, odd}, {"scalar", nil, odd[9:]}, {"empty", []int{0, 7}, nil}},
		Meta:    map[string]string{"strategy": "noloco", "rng": "00ff", "empty": "", "quote": "\"<\n\u2028"},
	}
}

func sameBits(t *testing.T, got, want *State) {
	t.Helper()
	if got.Round != want.Round || got.Step != want.Step || got.Tokens != want.Tokens || got.Worker != want.Worker || !reflect.DeepEqual(got.Meta, want.Meta) {
		t.Errorf("got %d %d %d %d %q, want %d %d %d %d %q", got.Round, got.Step, got.Tokens, got.Worker, got.Meta, want.Round, want.Step, want.Tokens, want.Worker, want.Meta)
	}
	for _, lists := range [][2][]Vector{{got.Model, want.Model}, {got.Vectors, want.Vectors}} {
		if len(lists[0]) != len(lists[1]) {
			t.Fatalf("%d vectors, want %d", len(lists[0]), len(lists[1]))
		}
		for _, v := range lists[1] {
			data, ok := Find(lists[0], v.Name)
			if !ok || len(data) != len(v.Data) {
				t.Fatalf("%s: %d values, want %d", v.Name, len(data), len(v.Data))
			}
			for i := range data {
				if math.Float32bits(data[i]) != math.Float32bits(v.Data[i]) {
					t.Fatalf("%s[%d]: bits %x, want %x", v.Name, i, math.Float32bits(data[i]), math.Float32bits(v.Data[i]))
				}
			}
		}
	}
}

// local is the stages of Local on a file system of the test's.
type local struct {
	Dir, Tmpfs      string
	Keep, KeepEvery int // Keep 0 is 3
	Observe         func(Event)
}

func (l local) config(fs fileSystem) Config {
	if l.Keep == 0 {
		l.Keep = 3
	}
	stages := Local(l.Dir, l.Tmpfs, l.Keep, l.KeepEvery)
	for _, s := range stages {
		switch st := s.Store.(type) {
		case *Disk:
			st.files = fs
		case *Tmpfs:
			st.files = fs
		}
	}
	return Config{Stages: stages, Observe: l.Observe}
}

func open(t *testing.T, l local, fs fileSystem) *Writer {
	t.Helper()
	w, err := New(l.config(fs))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close(limit(t)) })
	return w
}

// newestIn is Newest of folders on the disk.
func newestIn(dirs ...string) (*State, string, []*CorruptError, error) {
	var stores []Store
	for _, dir := range dirs {
		stores = append(stores, NewDisk(dir))
	}
	s, found, skipped, err := Newest(context.Background(), stores...)
	return s, found.Path, skipped, err
}

func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func save(t *testing.T, w *Writer, s *State) error {
	t.Helper()
	if err := w.Save(s); err != nil {
		t.Fatal(err)
	}
	return wait(limit(t), w)
}

func rounds(t *testing.T, dir string) (list []uint64) {
	t.Helper()
	entries, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Err != nil {
			t.Errorf("%s: %v", e.Path, e.Err)
		}
		list = append(list, e.Round)
	}
	return list
}

func TestSaveAndLoadKeepEveryBit(t *testing.T) {
	dir := t.TempDir()
	w := open(t, local{Dir: dir}, realFiles{})
	if err := save(t, w, sample(7)); err != nil {
		t.Fatal(err)
	}
	got, path, skipped, err := newestIn(dir)
	if err != nil || len(skipped) != 0 || path != filepath.Join(dir, "round-00000007") {
		t.Fatal(path, skipped, err)
	}
	sameBits(t, got, sample(7))
	if m, err := Verify(path); err != nil || m.Round != 7 || m.Bytes() == 0 {
		t.Errorf("Verify: %+v %v", m, err)
	}
	// Shapes survive too.
	for _, v := range got.Vectors {
		if v.Name == "empty" && !reflect.DeepEqual(v.Shape, []int{0, 7}) || v.Name == "scalar" && len(v.Shape) != 0 {
			t.Errorf("%s has shape %v", v.Name, v.Shape)
		}
	}
}

// The file that WriteTensors writes, to the byte: safetensors is read by others.
func TestSafetensorsLayout(t *testing.T) {
	var b bytes.Buffer
	err := WriteTensors(&b, []Vector{{"b", []int{1, 2}, []float32{1, -2}}, {"a", nil, []float32{0.5}}}, map[string]string{"format": "pt"})
	if err != nil {
		t.Fatal(err)
	}
	header := `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}}`
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	want := append([]byte{byte(len(header)), 0, 0, 0, 0, 0, 0, 0}, header...)
	want = append(want, 0, 0, 0, 0x3f, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0)
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("got\n%q\nwant\n%q", b.Bytes(), want)
	}
	_, meta, err := ReadTensors(bytes.NewReader(want), int64(len(want)))
	if err != nil || meta["format"] != "pt" {
		t.Errorf("%v %v", meta, err)
	}
}

// quick is a folder of the test's, in memory where there is such a thing, because an fsync
// of a disk takes milliseconds.
func quick(t *testing.T) string {
	t.Helper()
	if !isMemory("/dev/shm") {
		return t.TempDir()
	}
	return memory(t)
}

func TestCompleteOrInvisibleAtEveryFailure(t *testing.T) {
	for _, crash := range []bool{false, true} {
		for n := 1; ; n++ {
			dir := quick(t)
			fs := &faultyDisk{crash: crash}
			var r record
			w := open(t, local{Dir: dir, Keep: 1, Observe: r.add}, fs)
			if err := save(t, w, sample(1)); err != nil {
				t.Fatal(err)
			}
			fs.mu.Lock()
			fs.failAt = len(fs.ops) + n
			fs.mu.Unlock()
			saveErr := save(t, w, sample(2)) // also prunes round 1
			if closeErr := w.Close(limit(t)); saveErr != nil && closeErr == nil {
				t.Errorf("n=%d crash=%v: Close forgets %v", n, crash, saveErr)
			}
			fs.mu.Lock()
			reached := len(fs.ops) >= fs.failAt
			// The first save is of round 1; the second ends with an fsync of the folder.
			published := reached && slices.Contains(fs.ops[fs.failAt-n:fs.failAt-1], "syncdir "+filepath.Base(dir))
			fs.mu.Unlock()
			if wantErr := reached && !published; wantErr != errors.Is(saveErr, errInjected) || !wantErr && saveErr != nil {
				t.Errorf("n=%d crash=%v: reached %v, published %v, saved with %v", n, crash, reached, published, saveErr)
			}
			if _, e := r.count(string(Pruned)); published != errors.Is(e.Err, errInjected) {
				t.Errorf("n=%d crash=%v: published %v, pruned with %v", n, crash, published, e.Err)
			}
			seen := rounds(t, dir) // none is visible and damaged
			for _, r := range seen {
				if _, err := Verify(filepath.Join(dir, RoundName(r))); err != nil {
					t.Errorf("n=%d crash=%v: %v", n, crash, err)
				}
			}
			got, _, skipped, err := newestIn(dir)
			if err != nil || len(skipped) > 0 {
				t.Fatalf("n=%d crash=%v: %v %v", n, crash, skipped, err)
			}
			if saveErr == nil && got.Round != 2 {
				t.Errorf("n=%d crash=%v: saved with %v, newest is %d", n, crash, saveErr, got.Round)
			}
			sameBits(t, got, sample(got.Round))
			checkOnlyTempsBeside(t, dir)
			// The next process sweeps what is left and goes on.
			next := open(t, local{Dir: dir, Keep: 1}, realFiles{})
			if err := save(t, next, sample(3)); err != nil {
				t.Fatal(err)
			}
			if left := rounds(t, dir); !reflect.DeepEqual(left, []uint64{3}) {
				t.Errorf("n=%d crash=%v: then %v", n, crash, left)
			}
			if !reached {
				if n < 15 {
					t.Fatalf("only %d operations: the fault plan does not reach the writer", n)
				}
				break
			}
		}
	}
}

func checkOnlyTempsBeside(t *testing.T, dir string) {
	t.Helper()
	items, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if _, ok := ParseRoundName(item.Name()); !ok && !strings.HasPrefix(item.Name(), tempPrefix) && item.Name() != lockName {
			t.Errorf("unexpected %s", item.Name())
		}
	}
}

func TestOrderOfOperations(t *testing.T) {
	dir := t.TempDir()
	fs := &faultyDisk{}
	w := open(t, local{Dir: dir}, fs)
	if err := save(t, w, sample(2)); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, op := range fs.ops {
		if len(order) == 0 || order[len(order)-1] != op {
			order = append(order, op)
		}
	}
	name := "round-00000002"
	want := []string{"remove .tmp-" + name, "mkdir .tmp-" + name}
	for _, f := range []string{modelFile, stateFile, manifestFile} {
		want = append(want, "create "+f, "write "+f, "sync "+f, "close "+f)
	}
	want = append(want, "syncdir .tmp-"+name, "rename .tmp-"+name+" "+name, "syncdir "+filepath.Base(dir))
	if !reflect.DeepEqual(order, want) {
		t.Errorf("got  %q\nwant %q", order, want)
	}
}

func TestEveryDamageIsFoundAndNamed(t *testing.T) {
	dir := quick(t)
	w := open(t, local{Dir: dir}, realFiles{})
	small := func(round uint64) *State {
		return &State{Round: round, Model: []Vector{{"m", []int{3}, []float32{1, 2, 3}}}, Vectors: []Vector{{"v", []int{1}, []float32{4}}}, Meta: map[string]string{"k": "v"}}
	}
	for r := uint64(1); r <= 2; r++ {
		if err := save(t, w, small(r)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, RoundName(2))
	expect := func(what, file, reason string) {
		t.Helper()
		var damage *CorruptError
		if _, err := Verify(path); !errors.As(err, &damage) || damage.File != file || damage.Path != path || !strings.Contains(damage.Reason, reason) {
			t.Errorf("%s: Verify says %v, want %s: %s", what, err, file, reason)
		}
		s, used, skipped, err := newestIn(dir)
		if err != nil || s.Round != 1 || used != filepath.Join(dir, RoundName(1)) || len(skipped) != 1 || skipped[0].File != file {
			t.Errorf("%s: LoadLatest: %v %v %v", what, used, skipped, err)
		}
	}
	for _, name := range []string{modelFile, stateFile, manifestFile} {
		full := filepath.Join(path, name)
		good, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		write := func(data []byte) {
			t.Helper()
			if err := os.WriteFile(full, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for bit := 0; bit < 8*len(good); bit += 5 {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			write(bad)
			if _, err := Verify(path); err == nil {
				t.Errorf("%s: bit %d flipped, not found", name, bit)
			}
			if _, err := Load(path); err == nil {
				t.Errorf("%s: bit %d flipped, loaded", name, bit)
			}
		}
		if name != manifestFile {
			expect("flipped", name, "hash: SHA-256 is")
			for _, n := range []int{0, 7, 8, len(good) - 1} {
				write(good[:n])
				expect("cut", name, fmt.Sprintf("size: %d bytes, %d were written", n, len(good)))
			}
		} else {
			expect("flipped", name, "") // JSON or hash
			for n := range good {
				write(good[:n])
				if _, err := Verify(path); err == nil {
					t.Errorf("manifest cut at %d, not found", n)
				}
			}
			write(append(bytes.Clone(good), ' '))
			expect("grown", name, "hash")
			write(bytes.Replace(good, []byte(`"format": 1`), []byte(`"format": 2`), 1))
			expect("newer", name, "format 2, this loco reads 1")
		}
		if err := os.Remove(full); err != nil {
			t.Fatal(err)
		}
		expect("missing", name, "missing")
		write(good)
	}
	if _, err := Verify(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, filepath.Join(dir, RoundName(9))); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, RoundName(9))
	if _, _, skipped, err := newestIn(dir); err != nil || len(skipped) != 1 || !strings.Contains(skipped[0].Reason, "round 2 in a folder of round 9") {
		t.Errorf("renamed: %v %v", skipped, err)
	}
}

func TestLatest(t *testing.T) {
	if path, _, err := Latest(filepath.Join(t.TempDir(), "none")); path != "" || !errors.Is(err, ErrNone) {
		t.Errorf("of nothing: %q, %v", path, err)
	}
	dir := t.TempDir()
	w := open(t, local{Dir: dir}, realFiles{})
	for _, err := range []error{save(t, w, sample(3)), save(t, w, sample(4))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if path, skipped, err := Latest(dir); err != nil || len(skipped) > 0 || path != filepath.Join(dir, RoundName(4)) {
		t.Errorf("%q, %v, %v", path, skipped, err)
	}
	// Sizes are as they were: the hash tells.
	name := filepath.Join(dir, RoundName(4), stateFile)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if path, skipped, err := Latest(dir); err != nil || path != filepath.Join(dir, RoundName(3)) || len(skipped) != 1 || skipped[0].File != stateFile {
		t.Errorf("%q, %v, %v", path, skipped, err)
	}
}

func TestNewestOfSeveralStores(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	wa, wb := open(t, local{Dir: a}, realFiles{}), open(t, local{Dir: b}, realFiles{})
	for _, err := range []error{save(t, wa, sample(3)), save(t, wb, sample(3)), save(t, wb, sample(4))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	newest := func(what, want string, damaged int) {
		t.Helper()
		if _, path, skipped, err := newestIn(a, b); err != nil || path != want || len(skipped) != damaged {
			t.Errorf("%s: %q, %v, %v, want %q and %d damaged", what, path, skipped, err, want, damaged)
		}
	}
	newest("the newest round", filepath.Join(b, RoundName(4)), 0)
	if err := os.Truncate(filepath.Join(b, RoundName(4), stateFile), 3); err != nil {
		t.Fatal(err)
	}
	newest("of equal ones the first store's", filepath.Join(a, RoundName(3)), 1)
	further := sample(3)
	further.Step++ // the run was stopped amid the round after this
	if err := save(t, wb, further); err != nil {
		t.Fatal(err)
	}
	newest("of one round the one with more steps", filepath.Join(b, RoundName(3)), 1)
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	w := open(t, local{Dir: dir, Keep: 2, KeepEvery: 4}, realFiles{})
	for r := uint64(1); r <= 10; r++ {
		if err := save(t, w, sample(r)); err != nil {
			t.Fatal(err)
		}
	}
	if got := rounds(t, dir); !reflect.DeepEqual(got, []uint64{4, 8, 9, 10}) {
		t.Errorf("kept %v", got)
	}
	// Going back leaves the abandoned future alone and keeps what is new.
	if err := save(t, w, sample(6)); err != nil {
		t.Fatal(err)
	}
	if got := rounds(t, dir); !reflect.DeepEqual(got, []uint64{4, 6, 8, 9, 10}) {
		t.Errorf("kept %v", got)
	}
}

func TestSameRoundAgain(t *testing.T) {
	dir := t.TempDir()
	w := open(t, local{Dir: dir}, realFiles{})
	other := sample(5)
	other.Meta = map[string]string{"x": "y"}
	for _, s := range []*State{sample(5), sample(5), other} {
		if err := save(t, w, s); err != nil {
			t.Fatal(err)
		}
	}
	got, _, _, err := newestIn(dir)
	if err != nil || got.Meta["x"] != "y" {
		t.Errorf("%v %v", got, err)
	}
	// A damaged one of that round makes room as well.
	if err := os.Remove(filepath.Join(dir, RoundName(5), stateFile)); err != nil {
		t.Fatal(err)
	}
	if err := save(t, w, sample(5)); err != nil {
		t.Fatal(err)
	}
	if got, _, _, err = newestIn(dir); err != nil {
		t.Fatal(err)
	}
	sameBits(t, got, sample(5))
}

// record collects events.
type record struct {
	mu     sync.Mutex
	events []Event
}

func (r *record) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// count takes a kind, or the name of a stage that was written.
func (r *record) count(what string) (n int, last Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if string(e.Kind) == what || e.Kind == Written && e.Stage == what {
			n, last = n+1, e
		}
	}
	return n, last
}

// set makes the vector of that name in list a copy of data, in its own memory when the
// length is the same, and returns the list.
func set(list []Vector, name string, shape []int, data []float32) []Vector {
	i := slices.IndexFunc(list, func(v Vector) bool { return v.Name == name })
	if i < 0 {
		list = append(list, Vector{Name: name})
		i = len(list) - 1
	}
	v := &list[i]
	v.Shape = append(v.Shape[:0], shape...)
	if len(v.Data) != len(data) {
		v.Data = make([]float32, len(data))
	}
	copy(v.Data, data)
	return list
}

// wait returns when nothing is being written or pending, with the error of the newest
// durable write if it failed.
func wait(ctx context.Context, w *Writer) error {
	for {
		w.mu.Lock()
		idle := w.pending == nil && w.writing == nil
		failed, changed := w.failed, w.changed
		w.mu.Unlock()
		if idle {
			return failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("still being written: %w", ctx.Err())
		}
	}
}

func TestTrainingGoesOnWhileTheDiskIsStuck(t *testing.T) {
	dir := t.TempDir()
	fs := &faultyDisk{block: make(chan struct{}), entered: make(chan struct{}, 1)}
	var r record
	w := open(t, local{Dir: dir, Keep: 10, Observe: r.add}, fs)
	params := make([]float32, 5000)
	const last = 20
	for round := uint64(1); round <= last; round++ {
		for i := range params {
			params[i] = float32(round)
		}
		s := w.Borrow()
		s.Round, s.Meta = round, nil
		s.Model = set(s.Model, "p", []int{50, 100}, params)
		if err := w.Save(s); err != nil {
			t.Fatal(err)
		}
		if round == 1 { // it must be the one in flight, or the counts depend on luck
			select {
			case <-fs.entered:
			case <-limit(t).Done():
				t.Fatal("nothing is written")
			}
		}
		for i := range params { // training changes its own memory at once
			params[i] = -1
		}
	}
	if got, _ := r.count(string(Replaced)); got != last-2 {
		t.Errorf("%d replaced, want %d", got, last-2)
	}
	close(fs.block)
	if err := wait(limit(t), w); err != nil {
		t.Fatal(err)
	}
	if got := rounds(t, dir); !reflect.DeepEqual(got, []uint64{1, last}) {
		t.Errorf("wrote %v", got)
	}
	for _, round := range []uint64{1, last} {
		s, err := Load(filepath.Join(dir, RoundName(round)))
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range s.Model[0].Data {
			if x != float32(round) {
				t.Fatalf("round %d: value %d is %g: the snapshot is aliased", round, i, x)
			}
		}
	}
	for stage, want := range map[string]int{string(Copied): last, Durable: 2, string(Replaced): last - 2, string(Pruned): 2} {
		if n, e := r.count(stage); n != want || e.Err != nil {
			t.Errorf("%d events of %s (%v), want %d", n, stage, e.Err, want)
		}
	}
}

func TestSnapshotsAllocateOnce(t *testing.T) {
	w := open(t, local{Dir: t.TempDir()}, realFiles{})
	params := make([]float32, 1000)
	seen := map[*float32]bool{}
	for round := uint64(1); round <= 6; round++ {
		s := w.Borrow()
		s.Round = round
		s.Model = set(s.Model, "p", []int{1000}, params)
		seen[&s.Model[0].Data[0]] = true
		if round == 3 {
			w.Release(s)
			continue
		}
		if err := save(t, w, s); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) > buffers {
		t.Errorf("%d buffers were allocated, want at most %d", len(seen), buffers)
	}
}

func TestConcurrentUse(t *testing.T) {
	w := open(t, local{Dir: t.TempDir(), Keep: 2}, realFiles{})
	var all sync.WaitGroup
	for g := range 3 {
		all.Go(func() {
			for i := range 5 {
				s := w.Borrow()
				s.Round, s.Meta = uint64(10*g+i), map[string]string{"g": fmt.Sprint(g)}
				s.Model = set(s.Model, "p", []int{3}, []float32{float32(g), 1, 2})
				if err := w.Save(s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := w.Close(limit(t)); err != nil {
		t.Fatal(err)
	}
	if err := w.Save(&State{}); err == nil {
		t.Error("Save after Close succeeds")
	}
}

func TestCloseHasADeadline(t *testing.T) {
	dir := t.TempDir()
	fs := &faultyDisk{block: make(chan struct{})}
	w := open(t, local{Dir: dir}, fs)
	if err := w.Save(sample(1)); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Close(ended); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Close: %v", err)
	}
	close(fs.block)
	if err := w.Close(limit(t)); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if got := rounds(t, dir); len(got) != 1 {
		t.Errorf("what was pending at Close was not written: %v", got)
	}
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	w := open(t, local{Dir: dir}, &faultyDisk{free: func(string) (uint64, bool) { return 1000, true }})
	err := save(t, w, sample(1))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "bytes needed, 1000 free") {
		t.Errorf("statfs: %v", err)
	}
	dir = t.TempDir()
	w = open(t, local{Dir: dir}, &faultyDisk{failAt: 4, err: &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}})
	need, sizeErr := sizeOf(sample(1))
	err = save(t, w, sample(1))
	if sizeErr != nil || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprintf("disk full, %d bytes needed", need)) {
		t.Errorf("write: %v", err)
	}
}

func TestRefusedStates(t *testing.T) {
	w := open(t, local{Dir: t.TempDir()}, realFiles{})
	one := []float32{1}
	for want, s := range map[string]*State{
		"there twice":         {Model: []Vector{{"a", []int{1}, one}, {"a", []int{1}, one}}},
		"has 2 values":        {Vectors: []Vector{{"a", []int{2}, one}}},
		"must be 1 to 1024":   {Vectors: []Vector{{"", []int{1}, one}}},
		"product is too":      {Vectors: []Vector{{"a", []int{math.MaxInt, 8}, one}}},
		"not UTF-8":           {Meta: map[string]string{"rng": "\xff"}},
		"must not be negativ": {Worker: -1},
	} {
		if err := w.Save(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	if _, err := New(Config{Stages: Local(t.TempDir(), "", 0, 0)}); err == nil {
		t.Error("Keep 0 is accepted")
	}
}

func FuzzReadTensors(f *testing.F) {
	for _, s := range []*State{sample(1), {}} {
		for _, list := range [][]Vector{s.Model[:min(1, len(s.Model))], s.Vectors} {
			var b bytes.Buffer
			if err := WriteTensors(&b, list, pytorch); err != nil {
				f.Fatal(err)
			}
			f.Add(b.Bytes())
		}
	}
	header := func(h string, data string) {
		f.Add(append(append([]byte{byte(len(h)), 0, 0, 0, 0, 0, 0, 0}, h...), data...))
	}
	header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "1234")
	header(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, "")
	header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, "")
	f.Fuzz(func(t *testing.T, data []byte) {
		vectors, meta, err := ReadTensors(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		total := 0
		for _, v := range vectors {
			total += 4 * len(v.Data)
		}
		if total > len(data) {
			t.Fatalf("%d bytes of values out of %d", total, len(data))
		}
		var again bytes.Buffer
		if err := WriteTensors(&again, vectors, meta); err != nil {
			if strings.Contains(err.Error(), "UTF-8") {
				return
			}
			t.Fatal(err)
		}
		back, _, err := ReadTensors(io.LimitReader(&again, 1<<30), int64(again.Len()))
		if err != nil {
			t.Fatal(err)
		}
		sameBits(t, &State{Model: back}, &State{Model: vectors})
	})
}

func FuzzParseManifest(f *testing.F) {
	m := Manifest{Format: 1, Meta: map[string]string{"a": "b"}, Files: []File{{modelFile, 1, strings.Repeat("0", 64)}, {stateFile, 2, strings.Repeat("f", 64)}}}
	text, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1,"files":[{},{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, reason := parseManifest(data)
		if reason != "" {
			return
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%q is accepted, %q is written (%v)", data, again, err)
		}
	})
}
