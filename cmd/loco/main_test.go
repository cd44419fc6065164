package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"loco/trainer"
	"loco/worker/config"
	"loco/worker/process"
)

// quietly runs loco in this process, and returns what it prints.
func quietly(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	out = captured(t, func() { code = run(args) })
	return code, out
}

// What the user has to correct ends with 2, work that failed with 1, a stop with 0.
func TestExitCodes(t *testing.T) {
	_, bad := config.Load("", []string{"run.workers=0"})
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitOK}, {errors.New("failed"), exitWork}, {fmt.Errorf("around: %w", process.Usage(errors.New("wrong"))), exitUsage},
		{fmt.Errorf("around: %w", bad), exitUsage}, {fmt.Errorf("around: %w", trainer.ErrStopped), exitOK}, {errors.Join(process.Usage(errors.New("wrong")), trainer.ErrStopped), exitUsage},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v ends with %d, want %d", c.err, got, c.want)
		}
	}
}

// Every command names what is wrong with how it is called, and ends with 2.
func TestUsageErrorsExitWith2(t *testing.T) {
	nothing := filepath.Join(t.TempDir(), "nothing")
	for args, want := range map[string]string{
		"nonsense":                     "nonsense",
		"run --set run.workers=0":      "run.workers",
		"run --set no.such=1":          "no.such",
		"run " + nothing + ".toml":     "nothing.toml",
		"run x.toml --preset tiny":     "--preset tiny",
		"run --workers=-1":             "run.workers",
		"worker --set sync.codec=none": "sync.codec",
		"worker --join nowhere":        "mesh.join",
		"worker --set run.seed=x":      "run.seed",
		"worker --set inner.device=cuda:99 --dir " + filepath.Join(t.TempDir(), "run") + " --set data.source=.": "inner.device",
		"worker --set data.source=" + nothing + " --dir " + filepath.Join(t.TempDir(), "run"):                   "nothing",
		"eval " + nothing:                   "nothing",
		"eval " + t.TempDir():               "holds no valid checkpoint",
		"eval . --tokens=-1":                "--tokens -1",
		"generate " + nothing:               "nothing",
		"generate . --tokens 0":             "--tokens 0",
		"generate . --prompt=":              "--prompt is empty",
		"checkpoint list " + nothing:        "nothing",
		"checkpoint list " + t.TempDir():    "holds no checkpoint",
		"checkpoint verify " + nothing:      "nothing",
		"config check --set model.heads=5":  "model.heads",
		"config preset none":                "none",
		"data inspect --samples=-1":         "--samples -1",
		"bench kernels --only none":         "--only",
		"bench kernels --seconds 0":         "--seconds 0",
		"data inspect " + nothing + ".toml": "nothing.toml",
		"bench chaos --replay 3":            "--strategy",
		"compare " + nothing:                "nothing",
	} {
		if code, out := quietly(t, strings.Fields(args)...); code != exitUsage || !strings.Contains(out, want) {
			t.Errorf("loco %s ends with %d, want %d and %q in:\n%s", args, code, exitUsage, want, out)
		}
	}
}

// Commands that need no run work.
func TestCommandsThatPrint(t *testing.T) {
	for args, want := range map[string][]string{
		"config show --set run.seed=77": {"seed = 77", "[mesh]"},
		"config show --devices":         {"cpu ("},
		"config check":                  {"The configuration is valid.", "parameters;", "and sends"},
		"config check --json":           {`"bytes_per_round":`},
		"config preset tiny":            {"preset", "parameters"},
		"config preset tiny --json":     {`"parameters":`},
	} {
		code, out := quietly(t, strings.Fields(args)...)
		if code != exitOK {
			t.Errorf("loco %s ends with %d:\n%s", args, code, out)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("loco %s prints no %q:\n%s", args, w, out)
			}
		}
	}
}
