// Command mpsdaemons says which MPS control daemons NVIDIA's mps-control-daemon would start for a configuration file, or why none.
//
// That program itself cannot be built from published modules; what it starts is decided in a package that the device plugin has too.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/NVIDIA/go-nvlib/pkg/nvlib/device"
	"github.com/NVIDIA/go-nvlib/pkg/nvlib/info"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
	config "github.com/NVIDIA/k8s-device-plugin/api/config/v1"
	"github.com/NVIDIA/k8s-device-plugin/cmd/mps-control-daemon/mps"
	"github.com/urfave/cli/v2"
	"k8s.io/klog/v2"
)

// answer has the pipe directories of the daemons, or the error.
type answer struct {
	Pipes []string `json:"pipes"`
	Error string   `json:"error"`
}

func main() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	flags := []cli.Flag{
		&cli.StringFlag{Name: "config-file"},
		&cli.StringFlag{Name: "mig-strategy", Value: config.MigStrategyNone},
		&cli.BoolFlag{Name: "fail-on-init-error", Value: true},
	}
	app := &cli.App{Name: "mpsdaemons", Flags: flags, Action: func(context *cli.Context) error {
		return json.NewEncoder(os.Stdout).Encode(ask(context, flags))
	}}
	if err := app.Run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask(context *cli.Context, flags []cli.Flag) answer {
	daemons, err := daemons(context, flags)
	if err != nil {
		return answer{Error: err.Error()}
	}
	pipes := []string{}
	for _, daemon := range daemons {
		pipes = append(pipes, daemon.PipeDir())
	}
	return answer{Pipes: pipes}
}

func daemons(context *cli.Context, flags []cli.Flag) ([]*mps.Daemon, error) {
	parsed, err := config.NewConfig(context, flags)
	if err != nil {
		return nil, err
	}
	config.DisableResourceNamingInConfig(parsed)
	if err := parsed.Resources.AddGPUResource("*", "gpu"); err != nil {
		return nil, err
	}
	if err := parsed.Resources.AddMIGResource("*", "gpu"); err != nil {
		return nil, err
	}
	library := nvml.New()
	devices := device.New(library)
	platform := info.New(info.WithNvmlLib(library), info.WithDeviceLib(devices))
	return mps.NewDaemons(platform, library, devices, mps.WithConfig(parsed))
}
