package model

import (
	"math"
	"strings"
)

// Init returns the initial parameters for a seed, the same bits on every machine:
// normal with deviation InitStd, the projections that write to the residual stream
// divided by sqrt(2·Layers) so that its variance does not grow with depth (Radford
// et al. 2019, section 2.3), norm weights 1. A tensor's values depend on the seed, its
// name and its length alone.
func (c Config) Init(seed uint64) []float32 {
	params := make([]float32, c.Parameters())
	residual := c.InitStd / math.Sqrt(float64(2*c.Layers))
	for _, t := range c.Layout() {
		values := params[t.Offset : t.Offset+t.Len]
		switch {
		case !t.Decay:
			for i := range values {
				values[i] = 1
			}
		case strings.HasSuffix(t.Name, "o_proj.weight"), strings.HasSuffix(t.Name, "down_proj.weight"):
			fillNormal(values, residual, stream(seed, t.Name))
		default:
			fillNormal(values, c.InitStd, stream(seed, t.Name))
		}
	}
	return params
}

func fillNormal(dst []float32, std float64, r random) {
	for i := 0; i < len(dst); i += 2 {
		x, y := r.normalPair()
		dst[i] = float32(std * x)
		if i+1 < len(dst) {
			dst[i+1] = float32(std * y)
		}
	}
}

// ropeTables returns cos and sin of position·theta^(−2i/HeadDim), each
// (Context, HeadDim/2) (Su et al., arXiv 2104.09864, eq. 15).
func (c Config) ropeTables() (cos, sin []float32) {
	half := c.HeadDim() / 2
	cos = make([]float32, c.Context*half)
	sin = make([]float32, c.Context*half)
	lnTheta := ln(c.RopeTheta)
	for i := range half {
		frequency := exp(-lnTheta * float64(i) / float64(half))
		for position := range c.Context {
			x, y := cosSin(float64(position) * frequency)
			cos[position*half+i] = float32(x)
			sin[position*half+i] = float32(y)
		}
	}
	return cos, sin
}
