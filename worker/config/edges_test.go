package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A name that is nearly one that is known is answered with it: two thirds must agree.
func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"sead": "seed", "sed": "seed", "seed": "seed", "xyz": "", "": "", "rounds": "rounds", "roundz": "rounds", strings.Repeat("s", 65): "",
	} {
		if got := nearest(name, []string{"seed", "rounds"}); got != want {
			t.Errorf("%q is near %q, want %q", name, got, want)
		}
	}
	if got := nearest("ab", []string{"ax", "ay"}); got != "ax" {
		t.Errorf("of two that are as near it is %q, want the first", got)
	}
}

// The port of metrics.listen is a number of 16 bits.
func TestPorts(t *testing.T) {
	for listen, ok := range map[string]bool{"127.0.0.1:0": true, ":65535": true, "": true, "127.0.0.1:65536": false, "127.0.0.1:http": false, "127.0.0.1": false, "127.0.0.1:-1": false} {
		if _, err := Load("", []string{"metrics.listen=" + listen}); (err == nil) != ok {
			t.Errorf("%q: %v", listen, err)
		}
	}
}

// A preset that does not exist is named, with those that do.
func TestUnknownPreset(t *testing.T) {
	var out bytes.Buffer
	if err := EncodePreset(&out, "tinny"); err == nil || !strings.Contains(err.Error(), "tinny") || !strings.Contains(err.Error(), "tiny") || out.Len() > 0 {
		t.Errorf("%v: %s", err, out.String())
	}
}

// A file has a bound, and as many bytes as that are read.
func TestFilesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.toml")
	for more, ok := range map[int]bool{0: true, 1: false} {
		text := "[run]\nseed = 7\n#"
		text += strings.Repeat("x", maxFileBytes+more-len(text))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if cfg, err := Load(path, nil); (err == nil) != ok || ok && cfg.Run.Seed != 7 {
			t.Errorf("%d bytes: seed %d, %v", len(text), cfg.Run.Seed, err)
		}
	}
}

// A GPU is cuda: and its number.
func TestGPUNumbers(t *testing.T) {
	for device, want := range map[string]int{"cuda:0": 0, "cuda:17": 17, "cpu": -1, "auto": -1, "7": -1, "cuda:256": -1, "cuda:255": 255, "cuda:01": -1} {
		if n, ok := (Inner{Device: device}).GPU(); ok != (want >= 0) || ok && n != want {
			t.Errorf("%s is %d, %v", device, n, ok)
		}
	}
}
