package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"loco/checkpoint"
	"loco/worker/process"
)

type checkpointCmd struct {
	List   checkpointList   `cmd:"" help:"List the checkpoints of a run, a worker, or one checkpoint's."`
	Verify checkpointVerify `cmd:"" help:"Read every file again and compare its hash."`
}

type checkpointList struct {
	Dir  string `arg:"" help:"Run's folder, or a folder of checkpoints."`
	JSON bool   `help:"Print JSON, one object a line."`
}

func (checkpointList) Help() string { return "Example:\n  loco checkpoint list runs/tiny-1a2b3c4d" }

// listing is one checkpoint in the output.
type listing struct {
	Path   string `json:"path"`
	Worker int    `json:"worker"`
	Round  uint64 `json:"round"`
	Step   uint64 `json:"step"`
	Tokens uint64 `json:"tokens"`
	Bytes  int64  `json:"bytes"`
	Error  string `json:"error,omitempty"`
}

func (c *checkpointList) Run() error {
	all, err := listings(c.Dir)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(os.Stdout)
	for _, l := range all {
		switch {
		case c.JSON:
			if err := enc.Encode(l); err != nil {
				return err
			}
		case l.Error != "":
			fmt.Printf("%s  DAMAGED: %s\n", l.Path, l.Error)
		default:
			fmt.Printf("%s  round %d  step %d  %s tokens  %s\n", l.Path, l.Round, l.Step, process.FormatCount(float64(l.Tokens)), process.FormatBytes(uint64(l.Bytes)))
		}
	}
	return nil
}

func listings(path string) (all []listing, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, process.Usage(err)
	}
	if _, err := os.Stat(filepath.Join(path, "manifest.json")); err == nil {
		path = filepath.Dir(path)
	}
	dirs, err := process.CheckpointFolders(path)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		entries, err := checkpoint.List(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			l := listing{Path: e.Path, Round: e.Round, Worker: e.Manifest.Worker, Step: e.Manifest.Step, Tokens: e.Manifest.Tokens, Bytes: e.Manifest.Bytes()}
			if e.Err != nil {
				l.Error = e.Err.Error()
			}
			all = append(all, l)
		}
	}
	if len(all) == 0 {
		return nil, process.Usage(fmt.Errorf("%s holds no checkpoint", path))
	}
	return all, nil
}

type checkpointVerify struct {
	Dir  string `arg:"" help:"Checkpoint's folder, a folder of checkpoints, or a run's folder."`
	JSON bool   `help:"Print JSON, one object a line."`
}

func (checkpointVerify) Help() string {
	return "Exit code 1 when one is damaged.\n\nExample:\n  loco checkpoint verify runs/tiny-1a2b3c4d"
}

func (c *checkpointVerify) Run() error {
	all, err := listings(c.Dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "manifest.json")); err == nil {
		clean := filepath.Clean(c.Dir)
		only := all[:0]
		for _, l := range all {
			if filepath.Clean(l.Path) == clean {
				only = append(only, l)
			}
		}
		all = only
	}
	damaged := 0
	enc := json.NewEncoder(os.Stdout)
	for _, l := range all {
		if l.Error == "" {
			if _, err := checkpoint.Verify(l.Path); err != nil {
				l.Error = err.Error()
			}
		}
		verdict := "whole"
		if l.Error != "" {
			damaged++
			verdict = "DAMAGED: " + l.Error
		}
		if c.JSON {
			if err := enc.Encode(l); err != nil {
				return err
			}
			continue
		}
		fmt.Printf("%s  %s\n", l.Path, verdict)
	}
	if damaged > 0 {
		return fmt.Errorf("%d of %d checkpoints are damaged; a run that resumes skips them", damaged, len(all))
	}
	return nil
}
