//go:build cuda && linux && amd64

package cuda

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"loco/kernels/cuda/emulator"
	"loco/kernels/cuda/ptx"
)

// again runs tests of this binary in another process, with an emulator of its own: a process
// has one driver.
func again(t *testing.T, library, tests string, args []string, environment ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	args = append([]string{"-test.run", tests, "-emulator", library}, args...)
	child := exec.CommandContext(ctx, os.Args[0], args...)
	child.Env = append(os.Environ(), environment...)
	out, err := child.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("the tests take more than five minutes:\n%s", out)
	}
	return string(out), err
}

// built returns a library of its own for this test.
func built(t *testing.T, options func() emulator.Options) string {
	t.Helper()
	if noDevice != "" || *gpu {
		t.Skip("this is about the emulator: ", noDevice)
	}
	path, err := emulator.Build(t.Context(), t.TempDir(), options())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The results do not depend on which warp, which lane of it, or which stream runs first; and no
// matrix takes more than one cycle to come out of shared memory.
func TestEmulatorSchedules(t *testing.T) {
	t.Parallel()
	library := built(t, func() emulator.Options { return emulator.Options{} })
	for schedule, tests := range map[int]string{
		2:  "Conformance|ManyTiles|HaveTheCPUsBits|Group|TrainingFollowsTheCPU",
		77: "Conformance|HaveTheCPUsBits|Group|TrainingFollowsTheCPU/bf16$",
	} {
		report := filepath.Join(t.TempDir(), "report")
		out, err := again(t, library, tests, nil, fmt.Sprint("EMULATOR_SCHEDULE=", schedule), "EMULATOR_REPORT="+report)
		if err != nil {
			t.Errorf("schedule %d: %v\n%s", schedule, err, out)
		}
		text, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		var conflicts, loads int
		if _, err := fmt.Sscan(string(text), &conflicts, &loads); err != nil {
			t.Fatal(err)
		}
		if conflicts != 0 || loads == 0 {
			t.Errorf("schedule %d: %d extra cycles for %d matrices", schedule, conflicts, loads)
		}
	}
}

// A planted is a bug that a test plants in a copy of the sources: text, which the file has, is
// replaced, SOUND being true where another bug is asked for, or none.
type planted struct{ file, text, changed string }

var bugs = []planted{
	{"src/gemm.cu", "block_sync();  // the copies of all threads", "if (SOUND) block_sync();  //"},
	{"src/gemm.cu", "copies_wait<STAGES - 2>();", "SOUND ? copies_wait<STAGES - 2>() : copies_wait<STAGES - 1>();"},
	{"src/attention.cu", "block_sync();  // all values are there", "if (SOUND) block_sync();  //"},
	{"src/attention.cu", "block_sync();  // all keys are there", "if (SOUND) block_sync();  //"},
	{"src/attention.cu", "block_sync();  // tile j is there", "if (SOUND) block_sync();  //"},
	{"src/forms.h", "block_sync();", "if (SOUND) block_sync();"},
	{"src/attention_float.cu", "warp_sync();", "if (SOUND) warp_sync();"},
	{"src/layers.cu", "block_sync();  // own is read", "if (SOUND || thread() < 32) block_sync();  //"},
	{"src/codec.cu", "= across(greatest, mask);", "= SOUND || lane < 31 ? across(greatest, mask) : 0;"},
	{"src/vectors.cu", "int half = 16;", "int half = SOUND ? 16 : 8;"},
	{"emulator/host/streams.cc", "if (e->recorded > e->reached)", "if (SOUND && e->recorded > e->reached)"},
}

// overflows are what AddressSanitizer alone can see.
var overflows = []planted{
	{"src/vectors.cu", "if (first < n && lane == 0) sums", "if ((first < n || !(SOUND)) && lane == 0) sums"},
	{"src/layers.cu", "load(w, weight, false, i);", "load(w, weight, false, SOUND ? i : i + 1);"},
	{"src/hash.cu", "w[j] = i + j < count ?", "w[j] = i + j < count + !(SOUND) ?"},
}

// plant copies the sources with every bug in them, each there where emulator::bug is its
// number, from 1.
func plant(t *testing.T, bugs []planted) string {
	t.Helper()
	folder := sources(t)
	for i, b := range bugs {
		path := filepath.Join(folder, b.file)
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, after, found := strings.Cut(string(source), b.text)
		if !found {
			t.Fatalf("%s has no %q to plant a bug in", b.file, b.text)
		}
		changed := strings.ReplaceAll(b.changed, "SOUND", fmt.Sprintf("emulator::bug != %d", i+1))
		if err := os.WriteFile(path, []byte(before+changed+after), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// sources returns a copy of what the emulator is built from.
func sources(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, part := range []string{"src", "emulator/host"} {
		if err := os.CopyFS(filepath.Join(folder, part), os.DirFS(part)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// What the emulator is for: a barrier or a wait that is missing, also one of a stream for another,
// a barrier that not all reach and a wrong reduction fail the suite, in one of two schedules.
func TestEmulatorFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	library := built(t, func() emulator.Options { return emulator.Options{Sources: plant(t, bugs)} })
	for i := range len(bugs) + 1 {
		tests := "Conformance|AttentionOfManyTiles|CodecHas|GroupSums"
		if i > 0 && bugs[i-1].file == "emulator/host/streams.cc" {
			tests = "GroupSums"
		}
		found := ""
		for _, schedule := range []string{"1", "2"} {
			out, err := again(t, library, tests, []string{"-test.failfast"}, fmt.Sprint("EMULATOR_BUG=", i), "EMULATOR_SCHEDULE="+schedule)
			if err != nil {
				found = out
				break
			}
		}
		switch {
		case i == 0 && found != "":
			t.Fatalf("without a bug the tests fail:\n%s", found)
		case i > 0 && found == "":
			t.Errorf("no test finds %q instead of %q in %s", bugs[i-1].changed, bugs[i-1].text, bugs[i-1].file)
		}
	}
}

// A kernel whose parameters are not the PTX's, or that the PTX does not have, is not found.
func TestEmulatorComparesParameters(t *testing.T) {
	t.Parallel()
	library := built(t, func() emulator.Options {
		folder := sources(t)
		one := "#include \"forms.h\"\nKERNEL(32, 1, copy_values, float *a) { a[0] = 1; }\n"
		if err := os.WriteFile(filepath.Join(folder, "src/kernels.cu"), []byte(one), 0o600); err != nil {
			t.Fatal(err)
		}
		return emulator.Options{Sources: folder}
	})
	out, err := again(t, library, "Conformance", []string{"-test.failfast"})
	if err == nil || !strings.Contains(out, "find the kernel") {
		t.Errorf("error %v, want a kernel that is not found:\n%s", err, out)
	}
}

// No kernel reads or writes outside what it was given: AddressSanitizer sees each buffer's end,
// because the arena takes none in slabs.
func TestEmulatorUnderAddressSanitizer(t *testing.T) {
	t.Parallel()
	var sanitizer string
	library := built(t, func() emulator.Options {
		var err error
		if sanitizer, err = emulator.Sanitizer(t.Context()); err != nil {
			t.Skip(err)
		}
		return emulator.Options{Sanitize: true, Sources: plant(t, overflows)}
	})
	environment := []string{"LD_PRELOAD=" + sanitizer, "ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0"}
	noSlabs := []string{"-slabs=false"}
	if out, err := again(t, library, "Conformance|HaveTheCPUsBits|Hashes|ManyTiles|TrainingFollowsTheCPU/bf16$", noSlabs, environment...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for i, b := range overflows {
		out, err := again(t, library, "ConformanceFP32|Activations|HashesHave", noSlabs, append(environment, fmt.Sprint("EMULATOR_BUG=", i+1))...)
		if err == nil || !strings.Contains(out, "AddressSanitizer") {
			t.Errorf("error %v: no test finds %q in %s", err, b.changed, b.file)
		}
	}
}

// The module has the kernels that the C++ registers, and Go launches no other.
func TestModuleHasEveryKernel(t *testing.T) {
	if *gpu {
		t.Skip("a test binary on a machine with a GPU has no sources beside it")
	}
	names := ptx.Kernels(ptx.SM80)
	for _, file := range []string{"vectors", "layers", "codec", "hash", "gemm", "attention", "attention_float"} {
		source, err := os.ReadFile("src/" + file + ".cu")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(source), "\n") {
			if !strings.HasPrefix(line, "KERNEL(") {
				continue
			}
			name := strings.TrimSpace(strings.Split(line, ",")[2])
			i := slices.Index(names, name)
			if i < 0 {
				t.Errorf("the PTX has no %s", name)
				continue
			}
			names = slices.Delete(names, i, i+1)
		}
	}
	if len(names) > 0 {
		t.Errorf("the sources have no %v, which the PTX has", names)
	}
}
