package cpu

import (
	"testing"
	"unsafe"
)

func TestFloatsAreZeroAndAligned(t *testing.T) {
	for _, n := range []int{0, 1, 1000, hugePage - 1, hugePage, hugePage + 1, 3*hugePage + 77} {
		for range 3 { // the second and third may get memory that was used before
			v := floats(n)
			if len(v) != n || cap(v) < n {
				t.Fatalf("floats(%d) has length %d, capacity %d", n, len(v), cap(v))
			}
			if n >= hugePage && uintptr(unsafe.Pointer(&v[0]))%(4*hugePage) != 0 {
				t.Errorf("floats(%d) begins at %p, want a multiple of %d", n, &v[0], 4*hugePage)
			}
			for i := range v {
				if v[i] != 0 {
					t.Fatalf("value %d of %d is %v, want 0", i, n, v[i])
				}
				v[i] = 1
			}
		}
	}
}
