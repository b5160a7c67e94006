package main

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// atOnce has a program that looks for races not wait a second for late ones at its
// end: this one is its own command line.
const atOnce = "atexit_sleep_ms=10"

func TestMain(m *testing.M) {
	if err := os.Setenv("GORACE", atOnce); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"edgelog":  func() { os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr)) },
		"provider": provider,
		"as":       as,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error { e.Setenv("GORACE", atOnce); return nil }})
}
