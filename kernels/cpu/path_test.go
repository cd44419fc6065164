package cpu

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"loco/kernels"
)

// TestRequirePaths fails where a machine that is meant to test a fast path would not
// run it: CI sets LOCO_REQUIRE_PATHS=AVX-512,AVX2 so that the tests of same bits
// cannot pass by comparing plain Go with itself. Every run of make emulate does.
func TestRequirePaths(t *testing.T) {
	want := os.Getenv("LOCO_REQUIRE_PATHS")
	if want == "" {
		t.Skip("LOCO_REQUIRE_PATHS is not set")
	}
	for i, name := range strings.Split(want, ",") {
		if have := Paths(); i >= len(have) || have[i] != name {
			t.Errorf("path %d is to be %s, this machine has %v", i, name, have)
		}
	}
}

// assembly returns the paths that are not Go, and skips the test where there is none to
// compare with it.
func assembly(t testing.TB) []*path {
	t.Helper()
	paths := vectorPaths()
	if len(paths) == 0 {
		t.Skip("this processor has no path in assembly, or none was built in")
	}
	return paths
}

// TestFastestPathIsChosen compares the device's path with the one that this CPU is to
// have: on amd64 by what the system says of it, on arm64 always NEON, which is part of
// what Go asks of such a CPU.
func TestFastestPathIsChosen(t *testing.T) {
	if !builtWithAssembly {
		t.Skip("built without assembly")
	}
	want := "NEON"
	if runtime.GOARCH == "amd64" {
		text, err := os.ReadFile("/proc/cpuinfo")
		if err != nil {
			t.Skip("this system has no /proc/cpuinfo")
		}
		want = fastestOnAMD64(string(text))
	}
	d, err := New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.path.name != want {
		t.Errorf("the device computes with %s, this CPU has what %s needs", d.path.name, want)
	}
}

// fastestOnAMD64 names the path for the first CPU of /proc/cpuinfo.
func fastestOnAMD64(text string) string {
	_, flags, _ := strings.Cut(text, "\nflags")
	flags, _, _ = strings.Cut(flags, "\n")
	has := func(names ...string) bool {
		for _, name := range names {
			if !slices.Contains(strings.Fields(flags), name) {
				return false
			}
		}
		return true
	}
	switch {
	case has("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "bmi2"):
		return "AVX-512"
	case has("avx2", "fma", "bmi2"):
		return "AVX2"
	case compilerFuses():
		return "Go with FMA"
	}
	return "plain Go"
}
