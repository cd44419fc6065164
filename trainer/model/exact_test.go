package model

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"testing"

	"loco/kernels/splitmix"
)

func TestExactFunctionsAreAccurate(t *testing.T) {
	r := random{splitmix.Source(1)}
	for range 20000 {
		x := r.Uniform()*100 + 1e-9
		if got, want := ln(x), math.Log(x); !within(got, want, 4e-16*math.Max(1, math.Abs(want))) {
			t.Fatalf("ln(%v) = %v, want %v", x, got, want)
		}
		y := 40 * (r.Uniform() - 0.5)
		if got, want := exp(y), math.Exp(y); !within(got, want, 1e-15*want) {
			t.Fatalf("exp(%v) = %v, want %v", y, got, want)
		}
		z := r.Uniform() * (1 << 20)
		c, s := cosSin(z)
		if !within(c, math.Cos(z), 4e-16) || !within(s, math.Sin(z), 4e-16) {
			t.Fatalf("cosSin(%v) = %v, %v, want %v, %v", z, c, s, math.Cos(z), math.Sin(z))
		}
	}
	for _, x := range []float64{1, 2, 0.5, 1e-300, 1e300} {
		if got, want := ln(x), math.Log(x); !within(got, want, 4e-16*math.Max(1, math.Abs(want))) {
			t.Errorf("ln(%v) = %v, want %v", x, got, want)
		}
	}
	if exp(0) != 1 || exp(-700) == 0 {
		t.Errorf("exp(0) = %v, exp(-700) = %v", exp(0), exp(-700))
	}
	if c, s := cosSin(0); c != 1 || s != 0 {
		t.Errorf("cosSin(0) = %v, %v", c, s)
	}
}

func TestInitHasTheAskedDeviations(t *testing.T) {
	cfg := Default()
	params := cfg.Init(11)
	for _, tensor := range cfg.Layout() {
		values := params[tensor.Offset : tensor.Offset+tensor.Len]
		if !tensor.Decay {
			if values[0] != 1 || values[len(values)-1] != 1 {
				t.Errorf("%s: norm weights %v, want 1", tensor.Name, values[0])
			}
			continue
		}
		want := 0.02
		if n := tensor.Name; n[len(n)-13:] == "o_proj.weight" || n[len(n)-16:] == "down_proj.weight" {
			want = 0.02 / math.Sqrt(8)
		}
		count := float64(len(values))
		mean, fourth := 0.0, 0.0
		for _, v := range values {
			mean += float64(v) / count
			fourth += math.Pow(float64(v)/want, 4) / count
		}
		std := norm(values) / math.Sqrt(count)
		// Five standard errors of each estimate.
		if !within(mean, 0, 5*want/math.Sqrt(count)) || !within(std/want, 1, 5/math.Sqrt(2*count)) || !within(fourth, 3, 5*math.Sqrt(96/count)) {
			t.Errorf("%s: mean %.3g, deviation %.4g, want 0, %.4g; kurtosis %.3g, want 3", tensor.Name, mean, std, want, fourth)
		}
	}
}

// The seeds of a run promise the same start on every machine: these bits may not
// change.
func TestInitIsPinned(t *testing.T) {
	cfg := Default()
	if got, want := checksum(cfg.Init(0)), uint32(0xd07c10f6); got != want {
		t.Errorf("checksum of the initial parameters %#x, want %#x", got, want)
	}
	if checksum(cfg.Init(1)) == checksum(cfg.Init(0)) {
		t.Error("two seeds give the same parameters")
	}
	cfg.RopeTheta, cfg.Context = 500000, 4096
	cos, sin := cfg.ropeTables()
	if got, want := checksum(append(cos, sin...)), uint32(0xab40d9ba); got != want {
		t.Errorf("checksum of the rotary tables %#x, want %#x", got, want)
	}
}

func checksum(x []float32) uint32 {
	sum := crc32.NewIEEE()
	var b [4]byte
	for _, v := range x {
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
		sum.Write(b[:])
	}
	return sum.Sum32()
}

// A tensor of an odd number of values has those of one value more, less the last.
func TestNormalValuesComeInPairs(t *testing.T) {
	even := make([]float32, 8)
	fillNormal(even, 0.5, stream(3, "x"))
	for n := range len(even) {
		got := make([]float32, n)
		fillNormal(got, 0.5, stream(3, "x"))
		if !slices.Equal(got, even[:n]) {
			t.Errorf("%d values are %v, want %v", n, got, even[:n])
		}
	}
}
