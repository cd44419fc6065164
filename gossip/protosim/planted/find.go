package planted

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

var (
	mutants = flag.Bool("mutants", false, "build each mutant and run it until a schedule finds it")
	update  = flag.Bool("update", false, "with -mutants: search from the first schedule on, and write what is found into the patches")
	hunt    = flag.String("hunt", "", "the world of TestHunt")
	first   = flag.Uint64("hunt-first", 1, "the first schedule of TestHunt")
	number  = flag.Uint64("hunt-schedules", 1, "schedules of TestHunt")
)

// found is what TestHunt says of the first schedule that fails.
var found = regexp.MustCompile(`schedule (\d+): (.*)`)

// runMax bounds one search, of all schedules.
const runMax = 20 * time.Minute

// Hunt is the body of TestHunt: it runs schedules of the world that -hunt names until one fails.
func Hunt(t *testing.T, worlds map[string]func(t *testing.T, schedule uint64) error) {
	t.Helper()
	if *hunt == "" {
		t.Skip("needs -hunt WORLD, -hunt-first and -hunt-schedules")
	}
	run, ok := worlds[*hunt]
	if !ok {
		t.Fatalf("no world is called %q", *hunt)
	}
	for n := *first; n < *first+*number; n++ {
		if err := run(t, n); err != nil {
			t.Fatalf("schedule %d: %v", n, err)
		}
	}
}

// Find builds the test binary of the package in the working directory with each patch of the
// folder, and fails t where no schedule up to most finds it. It skips without -mutants.
func Find(t *testing.T, dir string, most uint64) {
	t.Helper()
	if !*mutants {
		t.Skip("builds and runs a test binary for each mutant: -mutants")
	}
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		t.Run(filepath.Base(m.path), func(t *testing.T) {
			binary, err := m.build(top, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			n, says := uint64(0), ""
			if !*update && m.schedule > 0 {
				if n, says, err = m.run(binary, m.schedule, 1); err != nil {
					t.Fatal(err)
				}
			}
			if n == 0 {
				if n, says, err = m.run(binary, 1, most); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("| %s | %d | %s |", m.name, n, says)
			switch {
			case n == 0:
				t.Errorf("%d schedules did not find it", most)
			case *update:
				if err := m.write(n, says); err != nil {
					t.Error(err)
				}
			case n != m.schedule:
				t.Errorf("schedule %d finds it, and %d, which did, does not: run with -update", n, m.schedule)
			}
		})
	}
}

// build makes the mutant's test binary.
func (m mutant) build(top, tmp string) (binary string, err error) {
	files, err := m.apply(top)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for name, text := range files {
		to := filepath.Join(tmp, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[name] = to
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	binary = filepath.Join(tmp, "mutant.test")
	out, err := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", list, "-o", binary, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s does not build: %w\n%s", m.path, err, out)
	}
	return binary, nil
}

// run runs n schedules from the first on, and returns the one that finds the mutant; 0: none does.
func (m mutant) run(binary string, from, n uint64) (schedule uint64, says string, err error) {
	cmd := exec.Command(binary, "-test.run=^TestHunt$", "-test.timeout="+runMax.String(), "-hunt="+m.world,
		fmt.Sprintf("-hunt-first=%d", from), fmt.Sprintf("-hunt-schedules=%d", n))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return 0, "", nil
	}
	match := found.FindSubmatch(out)
	if match == nil {
		return 0, "", fmt.Errorf("%s: the run ends without saying which schedule failed: %w\n%s", m.path, err, out)
	}
	schedule, err = strconv.ParseUint(string(match[1]), 10, 64)
	return schedule, string(match[2]), err
}

// write keeps what found the mutant in its patch.
func (m mutant) write(schedule uint64, says string) error {
	text, err := os.ReadFile(m.path)
	if err != nil {
		return err
	}
	old, err := parse(m.path, string(text))
	if err != nil {
		return err
	}
	at := len(old.name) + 1
	for at < len(text) && !(text[at] == '@' && text[at-1] == '\n') {
		at++
	}
	old.schedule, old.says = schedule, says
	return os.WriteFile(m.path, append([]byte(old.header()+"\n"), text[at:]...), 0o644)
}
