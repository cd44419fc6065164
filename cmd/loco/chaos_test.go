package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestChaosRunsAndReplays(t *testing.T) {
	var out bytes.Buffer
	if err := chaos(&out, 1, time.Nanosecond); err != nil || !strings.Contains(out.String(), "seed 1 ") || !strings.Contains(out.String(), "1 schedules") {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	if err := replay(&out, 1); err != nil || !strings.Contains(out.String(), "commits round 0") {
		t.Errorf("%v: %d bytes of trace", err, out.Len())
	}
	if err := (&chaosCmd{Seconds: -1}).Run(); err == nil || !strings.Contains(err.Error(), "--seconds") {
		t.Errorf("a negative time: %v", err)
	}
}
