//go:build race

package swim

func init() { slowed = true }
