package main

import (
	"fmt"

	"github.com/edgelog/edgelog/pkg/recorder"
)

// checkStatic reads the static table as the agent would.
func (d *doctor) checkStatic() {
	if len(d.conf.Static) == 0 && d.conf.StaticFile == "" {
		return
	}
	rows, err := recorder.ReadStatic(d.conf)
	if err != nil {
		d.fail("static table", err.Error(), "put the row right: until then the agent does not start with it, and a reload keeps the table that it has")
		return
	}
	d.ok("static table", fmt.Sprintf("%d rows", len(rows)))
}
