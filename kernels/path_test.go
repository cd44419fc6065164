package kernels

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestRequirePaths fails where a machine that is meant to test a fast path would not
// run it: CI sets LOCO_REQUIRE_PATHS=AVX-512,AVX2 so that the tests of same bits
// cannot pass by comparing plain Go with itself.
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

// TestFastestPathIsChosen compares the paths with what the system says of the CPU.
func TestFastestPathIsChosen(t *testing.T) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || runtime.GOARCH != "amd64" || !builtWithAssembly {
		t.Skip("no /proc/cpuinfo of an amd64 CPU, or built without assembly")
	}
	_, flags, _ := strings.Cut(string(text), "\nflags")
	flags, _, _ = strings.Cut(flags, "\n")
	has := func(names ...string) bool {
		for _, name := range names {
			if !slices.Contains(strings.Fields(flags), name) {
				return false
			}
		}
		return true
	}
	want := "plain Go"
	switch {
	case has("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "bmi2"):
		want = "AVX-512"
	case has("avx2", "fma", "bmi2"):
		want = "AVX2"
	}
	d, err := NewCPU(1, FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.path.name != want {
		t.Errorf("the device computes with %s, this CPU has what %s needs", d.path.name, want)
	}
}
