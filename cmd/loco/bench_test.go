package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"loco/cmd/loco/bench"
	"loco/worker/process"
)

func TestBenchKernelsPrintsJSON(t *testing.T) {
	var out bytes.Buffer
	c := benchKernels{Threads: 1, Precision: "fp32", Seconds: 0.05, Parameters: 1000, Only: []string{"adamw", "squared norm"}, JSON: true}
	if err := c.run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	var report bench.Report
	decoder := json.NewDecoder(&out)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil {
		t.Fatal(err)
	}
	if n := len(report.Results) + len(report.LeftOut); n != 2 || len(report.Results) == 0 {
		t.Errorf("%d results and %d left out, want 2 in all", len(report.Results), len(report.LeftOut))
	}
	if report.Machine.Threads != 1 || report.Machine.Path == "" || report.Machine.Memory == nil {
		t.Errorf("the machine is %+v", report.Machine)
	}
}

func TestBenchKernelsPrintsATable(t *testing.T) {
	var out bytes.Buffer
	c := benchKernels{Threads: 2, Precision: "auto", Seconds: 0.05, Parameters: 1000, Only: []string{"adamw"}}
	if err := c.run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 threads", "path ", "memory, ", "AdamW", "memory 1r3u", " %\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestBenchKernelsRefusesFlags(t *testing.T) {
	good := benchKernels{Threads: 1, Precision: "fp32", Seconds: 1, Parameters: 1000}
	for name, change := range map[string]func(*benchKernels){
		"--threads":       func(c *benchKernels) { c.Threads = -1 },
		"--seconds":       func(c *benchKernels) { c.Seconds = 0 },
		"--seconds 1e+09": func(c *benchKernels) { c.Seconds = 1e9 },
		"--seconds NaN":   func(c *benchKernels) { c.Seconds = math.NaN() },
		"--parameters":    func(c *benchKernels) { c.Parameters = 0 },
		"--only":          func(c *benchKernels) { c.Only = []string{"no such kernel"} },
	} {
		c := good
		change(&c)
		err := c.run(t.Context(), &bytes.Buffer{})
		var usage *process.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error is %v, want one of usage that names it", name, err)
		}
	}
}

func TestBenchHelpHasTheRightName(t *testing.T) {
	found := false
	for _, c := range bench.Cases(bench.Standard(1)) {
		found = found || c.Extra && strings.Contains(c.Name(), "step 123.6M")
	}
	if !found || !strings.Contains(benchKernels{}.Help(), "'step 123.6M'") {
		t.Error("the help names a step that is not in the table")
	}
}
