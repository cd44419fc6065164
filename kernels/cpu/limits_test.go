package cpu

import (
	"fmt"
	"slices"
	"testing"

	"loco/kernels"
)

// TestStreams runs every loop of every path: they must touch all of their arrays, once,
// and nothing else.
func TestStreams(t *testing.T) {
	for _, p := range allPaths() {
		for _, threads := range []int{1, 3} {
			d, err := newDevice(threads, p, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, mix := range []Mix{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 3, 0}, {2, 1, 3}} {
				for _, past := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%d/%+v/%v", p.name, threads, mix, past), func(t *testing.T) {
						checkStreams(t, d, mix, past)
					})
				}
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func checkStreams(t *testing.T, d *Device, mix Mix, past bool) {
	const values = 2*streamTask + streamChunk // of each array: two tasks and a part
	s := d.NewStreams()
	if err := s.Cut(mix, 4*int64(values*mix.Arrays())+3); err != nil {
		t.Fatal(err)
	}
	s.Past(past)
	if want := 4.0 * values * float64(mix.Read+2*mix.Update+mix.Write); s.Bytes() != want {
		t.Errorf("%v bytes a run, want %v", s.Bytes(), want)
	}
	for i, x := range s.job.arrays {
		if len(x) != values || cap(x) != values {
			t.Fatalf("array %d has length %d and capacity %d, want %d", i, len(x), cap(x), values)
		}
		for j := range x {
			x[j] = 7
		}
	}
	s.Run()
	for i, x := range s.job.arrays {
		want := float32(1)
		switch {
		case i < mix.Read:
			want = 7
		case i < mix.Read+mix.Update:
			want = 8
		}
		if slices.ContainsFunc(x, func(v float32) bool { return v != want }) {
			t.Errorf("array %d of %+v is not %v throughout", i, mix, want)
		}
	}
	sum := float32(0)
	for _, v := range s.job.sums {
		sum += v
	}
	if want := float32(7 * values * mix.Read); sum != want {
		t.Errorf("the sum of what was read is %v, want %v", sum, want)
	}
}

// Past chooses the loop that writes past the caches, until the next Cut.
func TestStreamsPast(t *testing.T) {
	fill := func(value float32) func([]float32) {
		return func(x []float32) {
			for i := range x {
				x[i] = value
			}
		}
	}
	p := plainPath
	p.streams = &streams{read: plainStreamRead, update: plainStreamUpdate, write: fill(2), writePast: fill(3)}
	d, err := newDevice(1, &p, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := d.NewStreams()
	for _, past := range []bool{false, true, false} {
		if err := s.Cut(Mix{Write: 1}, 4*streamChunk); err != nil {
			t.Fatal(err)
		}
		want := float32(2)
		if past {
			s.Past(true)
			want = 3
		}
		s.Run()
		if got := s.job.arrays[0][streamChunk-1]; got != want {
			t.Errorf("past %v: the last value is %v, want %v", past, got, want)
		}
	}
}

func TestStreamsOfNoSize(t *testing.T) {
	d, err := New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := d.NewStreams()
	for _, c := range []struct {
		mix   Mix
		bytes int64
	}{{Mix{}, 1}, {Mix{-1, 2, 0}, 1}, {Mix{60, 5, 0}, 1}, {Mix{1, 0, 0}, -1}, {Mix{1, 0, 0}, 1 << 62}} {
		if err := s.Cut(c.mix, c.bytes); err == nil {
			t.Errorf("streams of %+v and %d bytes have no error", c.mix, c.bytes)
		}
	}
	if err := s.Cut(Mix{1, 1, 0}, 0); err != nil || s.Bytes() != 3*4*streamChunk {
		t.Errorf("the smallest streams move %v bytes (%v), want %d", s.Bytes(), err, 3*4*streamChunk)
	}
}

// TestStreamsKeepTheirMemory cuts it anew: smaller arrays lie in the memory of larger.
func TestStreamsKeepTheirMemory(t *testing.T) {
	d, err := New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := d.NewStreams()
	var first [3]*float32
	for i, mix := range []Mix{{0, 0, 2}, {0, 1, 0}, {1, 1, 1}} {
		if err := s.Cut(mix, 1<<20>>i); err != nil {
			t.Fatal(err)
		}
		s.Run()
		first[i] = &s.job.arrays[0][0]
	}
	if first[0] != first[1] || first[1] != first[2] {
		t.Error("a smaller cut took new memory")
	}
}

func TestFusedMultiplyAdds(t *testing.T) {
	for _, p := range allPaths() {
		d, err := newDevice(2, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := 0.0
		if p.peak != nil {
			want = 3 * 5 * float64(p.peakFlop)
		}
		if got := d.FusedMultiplyAdds(3, 5); got != want {
			t.Errorf("%s: %v operations, want %v", p.name, got, want)
		}
		for _, n := range [][2]int{{0, 5}, {-1, 5}, {3, 0}, {3, -1}} { // a negative count would not end
			if got := d.FusedMultiplyAdds(n[0], n[1]); got != 0 {
				t.Errorf("%s: %d tasks of %d turns are %v operations", p.name, n[0], n[1], got)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestChoices holds what is said of the paths to what runs.
func TestChoices(t *testing.T) {
	var can []string
	for _, c := range Choices() {
		if len(c.Missing) == 0 {
			can = append(can, c.Path)
		}
		for _, m := range c.Missing {
			if !slices.Contains(c.Needs, m) {
				t.Errorf("%s misses %s, which it does not need", c.Path, m)
			}
		}
	}
	if !slices.Equal(can, Paths()) {
		t.Errorf("the choices that miss nothing are %v, this machine runs %v", can, Paths())
	}
}

// TestEveryNeedIsLookedFor finds a mistyped feature, which no processor would have.
func TestEveryNeedIsLookedFor(t *testing.T) {
	if !builtWithAssembly {
		t.Skip("built without assembly")
	}
	for _, c := range vectorChoices() {
		for _, name := range c.Needs {
			if !slices.ContainsFunc(features(), func(f feature) bool { return f.name == name }) {
				t.Errorf("%s needs %s, which is not looked for", c.Path, name)
			}
		}
	}
}
