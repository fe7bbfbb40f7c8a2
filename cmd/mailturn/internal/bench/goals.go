package bench

import "github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"

// Names of servers and columns.
const (
	mailturn    = "mailturn"
	nginxStream = "nginx stream"
	nginxMail   = "nginx mail"
	haproxy     = "HAProxy"
	goForwarder = "Go forwarder"

	loginCPU    = "login CPU ms"
	noopCPU     = "NOOP CPU us"
	metadataCPU = "GETMETADATA CPU us"
	fetchCPU    = "FETCH MB/CPU s"
	idleHeld    = "idle connections"
	idleMemory  = "idle KiB"
)

var columns = []report.Column{
	{Name: "login ms", Format: "%.2f"},
	{Name: loginCPU, Format: "%.2f", Ratio: true, Spread: true},
	{Name: noopCPU, Format: "%.0f", Ratio: true, Spread: true},
	{Name: metadataCPU, Format: "%.0f", Ratio: true, Spread: true},
	{Name: "GETMETADATA us", Format: "%.0f"},
	{Name: "FETCH MB/s", Format: "%.0f"},
	{Name: fetchCPU, Format: "%.0f", Ratio: true, Spread: true},
	{Name: idleHeld, Format: "%.0f"},
	{Name: idleMemory, Format: "%.1f", Ratio: true, Spread: true},
}

var goals = []report.Goal{
	{Column: loginCPU, Name: mailturn, Beside: goForwarder, Bound: 1.1},
	{Column: noopCPU, Name: mailturn, Beside: nginxStream, Bound: 1},
	{Column: metadataCPU, Name: mailturn, Bound: 100},
	{Column: fetchCPU, Name: mailturn, Beside: nginxStream, Bound: 0.9, Least: true},
	{Column: fetchCPU, Name: mailturn, Beside: nginxMail, Bound: 0.9, Least: true},
	{Column: idleMemory, Name: mailturn, Beside: haproxy, Bound: 1},
	{Column: idleMemory, Name: mailturn, Beside: nginxStream, Bound: 1.5},
	{Column: idleMemory, Name: mailturn, Beside: nginxMail, Bound: 1.5},
	{Column: idleMemory, Name: mailturn, Bound: 24},
}
