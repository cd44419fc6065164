package cpu

import (
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"
)

// An edge is memory between two pages without access. Guards of NaN find what a
// path writes, or computes with, outside its operands; here it fails for reading there
// and throwing the value away, too.
type edge struct{ values []float32 }

func newEdge(t *testing.T) edge {
	t.Helper()
	page := os.Getpagesize()
	memory, err := syscall.Mmap(-1, 0, 3*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip("no memory to map:", err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(memory); err != nil {
			t.Error(err)
		}
	})
	for _, guard := range [][]byte{memory[:page], memory[2*page:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Skip("no memory to protect:", err)
		}
	}
	return edge{unsafe.Slice((*float32)(unsafe.Pointer(&memory[page])), page/4)}
}

// of returns n values at the end of the memory, or at its beginning.
func (e edge) of(n int, end bool) []float32 {
	at := 0
	if end {
		at = len(e.values) - n
	}
	v := e.values[at : at+n : at+n]
	for i := range v {
		v[i] = 1 + float32(i%7)/8
	}
	return v
}

// atEdges runs f with its operands at both edges.
func atEdges(t *testing.T, p *path, what string, f func(end bool)) {
	t.Helper()
	for _, end := range []bool{true, false} {
		func() {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer func() {
				if r := recover(); r != nil {
					t.Fatalf("%s on %s, operands at the end of memory %v: %v", what, p.name, end, r)
				}
			}()
			f(end)
		}()
	}
}

func TestEdgesOfVectors(t *testing.T) {
	var edges [5]edge
	for i := range edges {
		edges[i] = newEdge(t)
	}
	for _, p := range assembly(t) {
		for n := range 68 {
			for _, c := range parityCases {
				atEdges(t, p, fmt.Sprintf("%s of %d values", c.name, n), func(end bool) {
					var v [5][]float32
					for i := range v {
						v[i] = edges[i].of(n, end)
					}
					c.run(p, v, [3]float32{0.37, 1.25, -0.5})
				})
			}
			if n > 0 {
				atEdges(t, p, fmt.Sprintf("greatest of %d values", n), func(end bool) {
					p.scaleGreatest(edges[0].of(n, end), p.greatest(edges[0].of(n, end)))
				})
			}
		}
	}
}

func TestEdgesOfProducts(t *testing.T) {
	c, a, b := newEdge(t), newEdge(t), newEdge(t)
	extent := func(rows, row, cols int) int { return (rows-1)*row + cols }
	for _, p := range assembly(t) {
		for m := 1; m < 14; m++ {
			for n := 1; n < 36; n++ {
				for form := range 4 {
					k, mode := 1+(m+n)%9, (m+n)%3
					atEdges(t, p, fmt.Sprintf("product m=%d n=%d k=%d mode=%d form=%d", m, n, k, mode, form), func(end bool) {
						x := product{m: m, n: n, k: k, mode: mode, cRow: n + 1, bRow: n, aRow: k, aCol: 1}
						size := extent(m, x.aRow, k)
						if form&1 != 0 {
							x.aRow, x.aCol = 1, m
							size = extent(k, m, m)
						}
						x.c, x.a, x.b = c.of(extent(m, x.cRow, n), end), a.of(size, end), b.of(extent(k, n, n), end)
						p.product(&x, nil)
						// w has all rows, of which the last may end at the square's.
						count := min(m, p.rows)
						w := a.of(extent(p.rows, p.rows, count), end)
						p.diagonal(x.c, x.cRow, w, p.rows, b.of(extent(count, n, n), end), n, count, n, form&2 != 0)
					})
				}
			}
		}
		for _, n := range []int{1, 7, 8, 15, 16, 17} {
			for _, k := range []int{1, 8, 15, 16, 17} {
				atEdges(t, p, fmt.Sprintf("turn %dx%d", n, k), func(end bool) {
					p.turn(c.of(extent(k, n+1, n), end), n+1, a.of(extent(n, k+1, k), end), k+1, n, k)
				})
			}
		}
	}
}
