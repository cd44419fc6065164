package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the presets' values anew")

// The presets are what they were: a value that changes changes runs that name its preset. A line is
// a key that a preset sets otherwise than the default, or a key of the default.
func TestPresetsAreGolden(t *testing.T) {
	var text strings.Builder
	plain := Default()
	for _, p := range Presets() {
		cfg, err := Preset(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range Keys() {
			if value := k.Text(&cfg); p.Name == defaultPreset || value != k.Text(&plain) {
				fmt.Fprintf(&text, "%s %s = %s\n", p.Name, k.Name, value)
			}
		}
	}
	path := filepath.Join("testdata", "presets.txt")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(want)) {
		known[line] = true
	}
	for line := range strings.Lines(text.String()) {
		_, key, _ := strings.Cut(line, " ")
		name, _, _ := strings.Cut(key, " ")
		if !known[line] && strings.Contains(string(want), " "+name+" = ") { // a key that is new is no change
			t.Errorf("%s is another value than in %s; -update writes it anew", strings.TrimSpace(line), path)
		}
		delete(known, line)
	}
	for line := range known {
		t.Errorf("no longer: %s", line)
	}
}

// Lists are bounded, and every item has the list's type.
func TestLists(t *testing.T) {
	most := make([]string, maxListItems)
	for i := range most {
		most[i] = fmt.Sprint(i)
	}
	cfg, err := Load("", []string{"inner.batch=" + fmt.Sprint(maxListItems), "inner.devices=" + strings.Join(most, ",")})
	if err != nil || len(cfg.Inner.Devices) != maxListItems {
		t.Errorf("%d devices, %v", len(cfg.Inner.Devices), err)
	}
	for set, want := range map[string]string{
		"inner.devices=" + strings.Join(append(most, "256"), ","): "has 257 items, at most 256 are allowed",
		"inner.devices=1,x": "", "mesh.join=x": "item 1",
	} {
		if _, err := Load("", []string{set}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", set, err, want)
		}
	}
	file := filepath.Join(t.TempDir(), "run.toml")
	for text, want := range map[string]string{
		"[inner]\ndevices = [0, \"1\"]\n":         "run.toml:2",
		"[inner]\ndevices = [0, 1.5]\n":           "item 2 has type",
		"[mesh]\nlisten = [1]\n":                  "item 1 has type",
		"[[run]]\nseed = 1\n":                     "write [run]",
		"\n\n[run]\nseed = 1\n\n[nothing]\nx = 1": "run.toml:6",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
