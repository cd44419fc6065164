package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestChaosRunsAndReplays(t *testing.T) {
	for strategy, want := range map[string]string{"diloco": "diloco: 1 schedules", "noloco": "noloco: 1 schedules", "both": "noloco: 1 schedules"} {
		var out bytes.Buffer
		if err := chaos(&out, strategy, 1, time.Nanosecond); err != nil || !strings.Contains(out.String(), "seed 1 ") || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v: %s", strategy, err, out.String())
		}
	}
	for strategy, want := range map[string]string{"diloco": "commits round 0", "noloco": "averages part 0 of round 0"} {
		var out bytes.Buffer
		if err := replay(&out, strategy, 1); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v: %d bytes of trace", strategy, err, out.Len())
		}
	}
	if err := (&chaosCmd{Strategy: "both", Seconds: -1}).Run(); err == nil || !strings.Contains(err.Error(), "--seconds") {
		t.Errorf("a negative time: %v", err)
	}
	if err := (&chaosCmd{Strategy: "both", Replay: 1}).Run(); err == nil || !strings.Contains(err.Error(), "--strategy") {
		t.Errorf("a replay of both: %v", err)
	}
}
