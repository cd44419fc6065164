//go:build race

package p2p

func init() { hostsMax = 16 }
