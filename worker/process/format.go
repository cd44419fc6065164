package process

import "fmt"

// FormatCount writes 12345 as 12.3k.
func FormatCount(x float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if x >= u.size {
			return fmt.Sprintf("%.3g%s", x/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f", x)
}

// FormatBytes writes a count of bytes with a decimal unit.
func FormatBytes(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	s := FormatCount(float64(n))
	return s[:len(s)-1] + " " + s[len(s)-1:] + "B"
}
