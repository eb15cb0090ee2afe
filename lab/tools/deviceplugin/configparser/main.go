// Command configparser says what NVIDIA's own parser makes of configuration files of the device plugin.
//
// Each line of standard input is a JSON string with one file; each line of standard output is what became of it, in the same order.
// A file is read as by nvidia-device-plugin without command line and environment, so that the answer holds what the file alone says.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	config "github.com/NVIDIA/k8s-device-plugin/api/config/v1"
	"github.com/urfave/cli/v2"
	"k8s.io/klog/v2"
)

const longestLine = 64 << 20

// answer is what became of one file: either an error, or what was understood.
type answer struct {
	Error    string         `json:"error,omitempty"`
	Config   *config.Config `json:"config,omitempty"`
	Strategy string         `json:"strategy,omitempty"`
	// Shared has the resources that are shared, by the name that they are advertised as.
	Shared map[string]int `json:"shared,omitempty"`
}

func main() {
	klog.LogToStderr(false) // warnings about ignored keys would come between the answers of a terminal
	klog.SetOutput(io.Discard)
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(questions io.Reader, answers io.Writer) error {
	directory, err := os.MkdirTemp("", "configparser")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	file := filepath.Join(directory, "config.yaml")
	lines := bufio.NewScanner(questions)
	lines.Buffer(nil, longestLine)
	output := bufio.NewWriter(answers)
	encoder := json.NewEncoder(output)
	for lines.Scan() {
		var text string
		if err := json.Unmarshal(lines.Bytes(), &text); err != nil {
			return fmt.Errorf("not a JSON string: %w", err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		if err := encoder.Encode(read(file)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return output.Flush()
}

// read parses one file and applies what the plugin applies before it uses it.
func read(file string) (found answer) {
	flags := []cli.Flag{&cli.StringFlag{Name: "config-file"}}
	app := &cli.App{Name: "configparser", Flags: flags, Writer: io.Discard, ErrWriter: io.Discard}
	app.Action = func(context *cli.Context) error {
		parsed, err := config.NewConfig(context, flags)
		if err != nil {
			return err
		}
		config.DisableResourceNamingInConfig(parsed)
		found = answer{Config: parsed, Strategy: string(parsed.Sharing.SharingStrategy()), Shared: shared(parsed)}
		return nil
	}
	if err := app.Run([]string{app.Name, "--config-file", file}); err != nil {
		return answer{Error: err.Error()}
	}
	return found
}

func shared(parsed *config.Config) map[string]int {
	replicas := map[string]int{}
	for _, resource := range parsed.Sharing.ReplicatedResources().Resources {
		name := resource.Name
		if resource.Rename != "" {
			name = resource.Rename
		}
		replicas[string(name)] = resource.Replicas
	}
	return replicas
}
