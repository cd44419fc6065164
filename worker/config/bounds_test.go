package config

import (
	"math"
	"strings"
	"testing"
)

// An end is inside where its bracket is square or missing, and outside where it is round.
func TestBounds(t *testing.T) {
	above, below := func(x float64) float64 { return math.Nextafter(x, math.Inf(1)) }, func(x float64) float64 { return math.Nextafter(x, math.Inf(-1)) }
	for tag, c := range map[string]struct {
		lo, hi bool // the ends are inside
		words  string
	}{
		"1..64": {true, true, "1 to 64"}, "(1..64]": {false, true, "above 1 and at most 64"},
		"1..64)": {true, false, "at least 1 and below 64"}, "(1..64)": {false, false, "above 1 and below 64"},
	} {
		b := parseBounds(tag, "number")
		if b.String() != c.words {
			t.Errorf("%s reads %q, want %q", tag, b, c.words)
		}
		for x, want := range map[float64]bool{
			1: c.lo, 64: c.hi, above(1): true, below(64): true, 30: true, below(1): false, above(64): false, math.Inf(1): false, math.Inf(-1): false,
		} {
			if why := b.check(x); (why == "") != want || why != "" && why != "must be "+c.words {
				t.Errorf("%s of %v: %q, want inside: %v", tag, x, why, want)
			}
		}
		if b.check(math.NaN()) == "" {
			t.Errorf("%s holds NaN", tag)
		}
	}
	if none := parseBounds("", "number"); none.check(math.Inf(1)) != "" || none.check(math.NaN()) != "" {
		t.Error("no bounds bound")
	}
	for tag, kind := range map[string]string{"1": "number", "1..x": "number", "x..1": "number", "1..2s": "duration", "1s..2": "duration"} {
		func() {
			defer func() {
				if why, ok := recover().(string); !ok || !strings.Contains(why, "range tag") {
					t.Errorf("the tag %s of a %s: %v", tag, kind, why)
				}
			}()
			parseBounds(tag, kind)
		}()
	}
	if b := parseBounds("1s..2m", "duration"); b.lo != 1e9 || b.hi != 120e9 {
		t.Errorf("%+v", b)
	}
}

// Every key refuses an end that is left out, and takes one that is not.
func TestEndsOfEveryKey(t *testing.T) {
	open := 0
	for _, k := range Keys() {
		if !k.bounds.set {
			continue
		}
		for _, end := range []struct {
			text string
			open bool
		}{{k.bounds.loText, k.bounds.loOpen}, {k.bounds.hiText, k.bounds.hiOpen}} {
			_, err := Load("", []string{k.Name + "=" + end.text})
			refused := err != nil && strings.Contains(err.Error(), k.Name+" = ") && strings.Contains(err.Error(), "must be "+k.bounds.String())
			if refused != end.open {
				t.Errorf("%s = %s: %v; it is allowed: %v", k.Name, end.text, err, !end.open)
			}
			if end.open {
				open++
			}
		}
	}
	if open < 5 {
		t.Errorf("%d ends are left out", open)
	}
}
