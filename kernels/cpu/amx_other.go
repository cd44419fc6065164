//go:build amd64 && !noasm && !linux

package cpu

// allowTiles asks the system for AMX's registers: only Linux is known to give them.
func allowTiles() bool { return false }
