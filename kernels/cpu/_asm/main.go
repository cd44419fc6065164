// Command _asm generates the amd64 fast paths of package cpu: one set of
// functions for AVX-512, one for AVX2 with FMA. Kernels of both are written once,
// over the register width that isa describes.
package main

import (
	"flag"
	"log"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	ConstraintExpr("!noasm")
	for _, s := range []*isa{avx512(), avx2()} {
		s.panel()
		s.triangle(false)
		s.triangle(true)
		s.transpose()
		s.copyPanels()
		s.elementwise()
		s.rows()
		s.layers()
		s.sums()
		s.adamw()
		s.peak()
		if s.wide {
			s.half()
		}
		s.streams()
		s.codecs()
	}
	pause()
	Generate()
	if err := encodeHalf(flag.Lookup("out").Value.String()); err != nil {
		log.Fatal(err)
	}
}

// block is the number of float32 that one turn of an elementwise loop takes, and the
// number of lanes of a reduction.
const block = 32
