//go:build cuda && linux && amd64

package driver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// folder holds the stand-ins that TestMain builds.
var folder string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if folder, err = os.MkdirTemp("", "driver"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		return m.Run()
	}())
}

// build compiles a stand-in with the C compiler that built this test.
func build(t testing.TB, source, name string, flags ...string) string {
	t.Helper()
	out := filepath.Join(folder, name)
	if _, err := os.Stat(out); err == nil {
		return out
	}
	args := append([]string{"-shared", "-fPIC", "-O1", "-w", "-o", out, "testdata/" + source}, flags...)
	if text, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, text)
	}
	return out
}

// open returns a device of the stand-in.
func open(t testing.TB, index int) *Device {
	t.Helper()
	// Every test asks for the same library, so the first binds it for all.
	if err := Load(build(t, "standin.c", "libcuda.so")); err != nil {
		t.Fatal(err)
	}
	d, err := Open(index)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks an error's words, and that it is one line.
func wantError(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is more than one line", err)
	}
}

// A driver that cannot be used is refused with the reason, and binds nothing.
func TestLoadSaysWhyNot(t *testing.T) {
	if loaded.path != "" {
		t.Skip("this process has a driver already: the test ran before")
	}
	for _, c := range []struct {
		name, flag string
		words      []string
	}{
		{"none", "", []string{"no NVIDIA driver", "cannot open shared object"}},
		{"old", "-DVERSION=11020", []string{"too old", "11.2", "11.4", "470.57.02"}},
		{"stub", "-DINIT=34", []string{"stub"}},
		{"empty", "-DINIT=100", []string{"no GPU"}},
		{"mixed", "-DINIT=803", []string{"restart"}},
		{"odd", "-DINIT=999", []string{"999"}},
	} {
		path := filepath.Join(folder, "absent.so")
		if c.flag != "" {
			path = build(t, "standin.c", c.name+".so", c.flag)
		}
		wantError(t, Load(path), append(c.words, "cuda: ")...)
	}
	open(t, 0)
	wantError(t, Load(filepath.Join(folder, "old.so")), "already has the driver")
}

func TestDevices(t *testing.T) {
	open(t, 0)
	list := must[[]Info](t)(Devices())
	if len(list) != 3 {
		t.Fatalf("%d devices", len(list))
	}
	if d := list[0]; d.Name != "Stand-in" || d.Major != 9 || d.Total != 64<<20 || d.Free != 64<<20 || d.Driver != 12040 || d.Reason != nil {
		t.Errorf("%+v", d)
	}
	wantError(t, list[2].Reason, "compute capability 7.0", "8.0", "RTX 30")
	if line := list[2].String(); !strings.Contains(line, "cuda:2  Old") || !strings.Contains(line, "unusable") {
		t.Error(line)
	}
	_, err := Open(3)
	wantError(t, err, "no device 3", "devices 0 to 2")
	_, err = Open(-1)
	wantError(t, err, "no device -1")
}

func TestCopies(t *testing.T) {
	d, other := open(t, 0), open(t, 1)
	s, far := must[*Stream](t)(d.NewStream()), must[*Stream](t)(other.NewStream())
	pinned := must[[]byte](t)(d.Pinned(1 << 10))
	copy(pinned, "across the bus")
	a, b, c := must[Ptr](t)(d.Alloc(1<<10)), must[Ptr](t)(d.Alloc(1<<10)), must[Ptr](t)(other.Alloc(1<<10))
	if !must[bool](t)(other.EnablePeer(d)) {
		t.Error("no path between the devices")
	}
	e := must[*Event](t)(d.NewEvent(true))
	ok(t, s.CopyIn(a, pinned))
	ok(t, s.Copy(b, a, 1<<10))
	ok(t, s.Fill(b, 'A', 1))
	ok(t, s.Record(e))
	ok(t, far.Wait(e))
	ok(t, far.CopyPeer(c, b, d, 1<<10))
	got := make([]byte, 14)
	ok(t, far.CopyOut(got, c))
	ok(t, far.Synchronize())
	ok(t, e.Synchronize())
	if string(got) != "Across the bus" {
		t.Errorf("%q", got)
	}
	if took := must[fmt.Stringer](t)(e.Since(e)); took.String() != "1.5ms" {
		t.Error(took)
	}
	for _, p := range []Ptr{a, b} {
		ok(t, d.Free(p, 1<<10))
	}
	ok(t, other.Free(c, 1<<10))
	ok(t, d.FreePinned(pinned))
	ok(t, e.Close())
	ok(t, s.Close())
	wantError(t, d.Free(a, 1<<10), "free")
}

func TestOutOfMemory(t *testing.T) {
	d := open(t, 0)
	held := must[Ptr](t)(d.Alloc(60 << 20))
	_, err := d.Alloc(8 << 20)
	wantError(t, err, "device 0 (Stand-in)", "allocate 8.0 MiB", "out of memory", "4.0 MiB of 64.0 MiB are free", "60.0 MiB are this program's", "other programs")
	if !IsOutOfMemory(err) || IsLost(err) {
		t.Error("not known as out of memory")
	}
	ok(t, d.Free(held, 60<<20))
	ok(t, d.Free(must[Ptr](t)(d.Alloc(8<<20)), 8<<20))
}

const add = ".version 7.0\n.visible .entry add(\n"

// adder is a kernel over three floats, and its arguments.
func adder(t testing.TB, d *Device) (s *Stream, f *Function, x Ptr, args []uint64) {
	s = must[*Stream](t)(d.NewStream())
	f = must[*Function](t)(must[*Module](t)(d.Module(add)).Function("add"))
	x = must[Ptr](t)(d.Alloc(12))
	t.Cleanup(func() { d.Free(x, 12) })
	ok(t, s.Fill(x, 0, 12))
	return s, f, x, []uint64{uint64(x), 3, uint64(math.Float32bits(1.5))}
}

func third(t testing.TB, s *Stream, x Ptr) float32 {
	b := make([]byte, 12)
	ok(t, s.CopyOut(b, x))
	ok(t, s.Synchronize())
	return math.Float32frombits(binary.LittleEndian.Uint32(b[8:]))
}

func TestLaunch(t *testing.T) {
	d := open(t, 0)
	s, f, x, args := adder(t, d)
	ok(t, f.SetDynamicShared(99<<10))
	ok(t, s.Launch(f, 1, 1, 1, 32, 99<<10, args))
	if got := third(t, s, x); got != 1.5 {
		t.Error(got)
	}
	wantError(t, f.SetDynamicShared(1<<20), "add", "1048576", "102400")
	wantError(t, s.Launch(f, 1, 1, 1, 32, 0, make([]uint64, 25)), "25 arguments")
	if n := testing.AllocsPerRun(100, func() { s.Launch(f, 1, 1, 1, 32, 0, args) }); n != 0 {
		t.Errorf("a launch allocates %v times", n)
	}
}

// Goroutines move between threads, and each works on its own device all the same.
func TestAnyGoroutine(t *testing.T) {
	var all sync.WaitGroup
	for g := range 16 {
		d := open(t, g%2)
		all.Go(func() {
			for range 100 {
				p, err := d.Alloc(100)
				if err == nil {
					err = d.Free(p, 100)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for i := range 2 {
		if free, total, err := open(t, i).Memory(); err != nil || free != total {
			t.Errorf("device %d: %d of %d bytes are free, %v", i, free, total, err)
		}
	}
}

func TestGraph(t *testing.T) {
	d := open(t, 0)
	s, f, x, args := adder(t, d)
	twice := func() error { return errors.Join(s.Launch(f, 1, 1, 1, 32, 0, args), s.Launch(f, 1, 1, 1, 32, 0, args)) }
	g := must[*Graph](t)(s.Capture(twice))
	if got := third(t, s, x); got != 0 {
		t.Errorf("%v: recording ran", got)
	}
	for range 3 {
		ok(t, s.Replay(g))
	}
	if got := third(t, s, x); got != 9 {
		t.Error(got)
	}
	ok(t, g.Close())
	bad := errors.New("bad")
	if _, err := s.Capture(func() error { return bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
	ok(t, s.Synchronize()) // no recording is left open
}

func TestModuleSaysWhy(t *testing.T) {
	d := open(t, 0)
	_, err := d.Module("nonsense")
	wantError(t, err, "compile 8 bytes of PTX", "JIT", "218", "line 1: fatal: no .version")
	_, err = must[*Module](t)(d.Module(add)).Function("absent")
	wantError(t, err, "find the kernel absent")
}

func TestBlas(t *testing.T) {
	d := open(t, 0)
	s := must[*Stream](t)(d.NewStream())
	_, err := s.NewBlas(filepath.Join(folder, "absent.so"))
	if err == nil || !strings.Contains(err.Error(), "no cuBLAS for device 0") {
		t.Error(err)
	}
	b := must[*Blas](t)(s.NewBlas(build(t, "blas.c", "libcublas.so")))
	if !strings.HasPrefix(b.String(), "cuBLAS 12.4.5 (") {
		t.Error(b)
	}
	// (2,3)·(3,2) = ((4,5),(11.5,18.5)), each matrix as it is and stored the other way round.
	plain := [2][]float32{{0, 1, 2, 3, 4, 5}, {0, 1, 1, 2, 1.5, 1.5}}
	other := [2][]float32{{0, 3, 1, 4, 2, 5}, {0, 1, 1.5, 1, 2, 1.5}}
	x, y, c := must[Ptr](t)(d.Alloc(12)), must[Ptr](t)(d.Alloc(12)), must[Ptr](t)(d.Alloc(16))
	for at := range 4 {
		ta, tb, left, right := at&1 != 0, at&2 != 0, plain[0], plain[1]
		ldx, ldy := 3, 2
		if ta {
			left, ldx = other[0], 2
		}
		if tb {
			right, ldy = other[1], 3
		}
		ok(t, s.CopyIn(x, bf16s(left)))
		ok(t, s.CopyIn(y, bf16s(right)))
		ok(t, b.Gemm(ta, tb, 2, 2, 3, x, ldx, y, ldy, 0, c, 2, false))
		ok(t, b.Gemm(ta, tb, 2, 2, 3, x, ldx, y, ldy, 1, c, 2, false))
		got := make([]byte, 16)
		ok(t, s.CopyOut(got, c))
		for i, want := range []float32{8, 10, 23, 37} {
			if g := math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:])); g != want {
				t.Errorf("transA %v, transB %v: output %d is %v, want %v", ta, tb, i, g, want)
			}
		}
	}
	wantError(t, b.Gemm(false, false, 2, 2, 3, x, 3, y, 2, 1, c, 2, true), "multiply (2,3)·(3,2)", "status 15")
	ok(t, b.Close())
	ok(t, errors.Join(d.Free(x, 12), d.Free(y, 12), d.Free(c, 16)))
}

func bf16s(x []float32) []byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(v)>>16))
	}
	return b
}

// What faults once stays lost: every later call says so.
func TestLostDevice(t *testing.T) {
	d := open(t, 1)
	s := must[*Stream](t)(d.NewStream())
	f := must[*Function](t)(must[*Module](t)(d.Module(add)).Function("fault"))
	err := s.Launch(f, 2, 1, 1, 64, 0, make([]uint64, 3))
	wantError(t, err, "device 1 (Stand-in)", "launch fault (grid 2×1×1, block 64", "unspecified launch failure (CUDA error 719)")
	for _, err := range []error{err, s.Synchronize()} {
		if !IsLost(err) || IsOutOfMemory(err) {
			t.Errorf("%v is not known as a lost device", err)
		}
	}
	if !IsLost(fmt.Errorf("wrapped: %w", ErrStuck)) || IsLost(errors.New("other")) {
		t.Error("IsLost")
	}
}

func BenchmarkLaunch(b *testing.B) {
	d := open(b, 0)
	s, f, _, args := adder(b, d)
	for b.Loop() {
		if err := s.Launch(f, 1, 1, 1, 32, 0, args); err != nil {
			b.Fatal(err)
		}
	}
}
