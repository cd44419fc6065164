package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// bounds is an interval. A tag writes it "1..64"; a round bracket at either end
// leaves that end out: "(0..1]".
type bounds struct {
	set            bool
	lo, hi         float64
	loOpen, hiOpen bool
	loText, hiText string
}

// parseBounds reads a tag. The tags are part of this package, so a mistake in one is
// a bug and panics; a test reads them all.
func parseBounds(tag, kind string) bounds {
	if tag == "" {
		return bounds{}
	}
	b := bounds{set: true, loOpen: strings.HasPrefix(tag, "("), hiOpen: strings.HasSuffix(tag, ")")}
	var ok bool
	if b.loText, b.hiText, ok = strings.Cut(strings.Trim(tag, "()[]"), ".."); !ok {
		panic("config: range tag " + tag + " has no ..")
	}
	b.lo, b.hi = parseBound(b.loText, kind), parseBound(b.hiText, kind)
	return b
}

func parseBound(text, kind string) float64 {
	if kind == "duration" {
		d, err := time.ParseDuration(text)
		if err != nil {
			panic("config: range tag: " + err.Error())
		}
		return float64(d)
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic("config: range tag: " + err.Error())
	}
	return x
}

// String says the interval in words: "above 0 and at most 1", "1 to 64".
func (b bounds) String() string {
	if !b.loOpen && !b.hiOpen {
		return b.loText + " to " + b.hiText
	}
	lo, hi := "at least ", "at most "
	if b.loOpen {
		lo = "above "
	}
	if b.hiOpen {
		hi = "below "
	}
	return lo + b.loText + " and " + hi + b.hiText
}

func (b bounds) check(x float64) string {
	if !b.set {
		return ""
	}
	// Written so that a NaN is outside.
	above := x > b.lo || !b.loOpen && x == b.lo
	below := x < b.hi || !b.hiOpen && x == b.hi
	if above && below {
		return ""
	}
	return fmt.Sprintf("must be %s", b)
}
