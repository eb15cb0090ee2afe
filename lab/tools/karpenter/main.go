// Command karpenter is the ordinary AWS controller of Karpenter, listening on 127.0.0.1 alone.
//
// Upstream writes the addresses of its metrics and probe servers as ":PORT", which is every interface, and has no option
// for it. Its manager is made through the variable NewManager of controller-runtime, which is replaced here before main runs.
package main

import (
	"k8s.io/client-go/rest"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"sigs.k8s.io/karpenter/pkg/cloudprovider/metrics"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	corecontrollers "sigs.k8s.io/karpenter/pkg/controllers"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	coreoperator "sigs.k8s.io/karpenter/pkg/operator"
	"sigs.k8s.io/karpenter/pkg/operator/options"

	v1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/cloudprovider"
	"github.com/aws/karpenter-provider-aws/pkg/cloudprovider/registrationhooks"
	"github.com/aws/karpenter-provider-aws/pkg/controllers"
	"github.com/aws/karpenter-provider-aws/pkg/operator"
)

const loopback = "127.0.0.1"

func init() {
	newManager := controllerruntime.NewManager
	controllerruntime.NewManager = func(config *rest.Config, opts manager.Options) (manager.Manager, error) {
		opts.Metrics.BindAddress = loopback + opts.Metrics.BindAddress
		opts.HealthProbeBindAddress = loopback + opts.HealthProbeBindAddress
		return newManager(config, opts)
	}
}

// main wires what the operator holds as the released program of this version does.
func main() {
	ctx, op := operator.NewOperator(coreoperator.NewOperator())
	// The flag is read by API types, before any controller runs.
	v1.CapacityReservationsEnabled = options.FromContext(ctx).FeatureGates.ReservedCapacity

	provider := metrics.Decorate(cloudprovider.New(op.InstanceTypesProvider, op.InstanceProvider, op.EventRecorder, op.GetClient(),
		op.AMIProvider, op.SecurityGroupProvider, op.CapacityReservationProvider, op.PlacementGroupProvider, op.InstanceTypeStore, op.CABundle))
	overlaid := overlay.Decorate(provider, op.GetClient(), op.InstanceTypeStore)
	cluster := state.NewCluster(op.Clock, op.GetClient(), overlaid)

	core := corecontrollers.NewControllers(ctx, op.Manager, op.Clock, op.GetClient(), op.EventRecorder, overlaid, provider, cluster,
		op.InstanceTypeStore, corecontrollers.WithRegistrationHook(registrationhooks.NewPlacementGroupRegistrationHook(op.InstanceProvider)))
	aws := controllers.NewControllers(ctx, op.Manager, op.Config, op.Clock, op.EC2API, op.GetClient(), op.EventRecorder,
		op.UnavailableOfferingsCache, op.SSMCache, op.ValidationCache, op.RecreationCache, overlaid, op.SubnetProvider,
		op.SecurityGroupProvider, op.InstanceProfileProvider, op.InstanceProvider, op.PricingProvider, op.AMIProvider,
		op.LaunchTemplateProvider, op.VersionProvider, op.InstanceTypesProvider, op.CapacityReservationProvider,
		op.PlacementGroupProvider, op.AMIResolver, op.ZonalShiftProvider, op.InstanceStatusProvider, op.CABundle)
	op.WithControllers(ctx, core...).WithControllers(ctx, aws...).Start(ctx)
}
