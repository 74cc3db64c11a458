"""What is under way on endpoints: peaks for CloudWatch every ten seconds, and current values for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from clary.dataplane.invocation_metrics import ENDPOINTS_NAMESPACE, Dimensions, InvocationMetrics
from clary.dataplane.multi_model import Models
from clary.dataplane.routes import EndpointRoute, RoutingTable, Variant
from clary.dataplane.serverless import Serverless

Row = tuple[str, tuple[tuple[str, str], ...], float]  # name, labels, value


class Gauges:
    """Reads what the parts of the door count anyway; nothing is added to the way of a request."""

    def __init__(
        self,
        routes: RoutingTable,
        metrics: InvocationMetrics,
        models: Models,
        serverless: Serverless,
    ) -> None:
        self._routes = routes
        self._metrics = metrics
        self._models = models
        self._serverless = serverless
        self._told: set[tuple[str, Dimensions]] = set()  # what was busy once is told when idle, too

    def observe(self) -> None:
        """Tell the highest values since the last time."""
        told: set[tuple[str, Dimensions]] = set()
        for route in self._routes.every():
            for variant in (*route.variants, *route.shadows):
                place = (("EndpointName", route.name), ("VariantName", variant.name))
                if variant.serverless is not None:
                    self._observe_serverless(route, variant, place, told)
                    continue
                self._observe_peaks(route, variant, "ConcurrentRequestsPerModel", place, told)
                for count in self._loaded(variant):
                    self._metrics.observe(
                        "LoadedModelCount", route.region, place, "Count", count, ENDPOINTS_NAMESPACE
                    )
            for name, fleets in (route.components or {}).items():
                place = (("InferenceComponentName", name),)
                for fleet in fleets:
                    self._observe_peaks(route, fleet, "ConcurrentRequestsPerCopy", place, told)
        self._told = told

    def rows(self) -> Iterator[Row]:
        """What is true now."""
        for route in self._routes.every():
            for variant in (*route.variants, *route.shadows):
                labels = (
                    *(("region", route.region), ("endpoint", route.name)),
                    ("variant", variant.name),
                )
                outstanding = sum(one.outstanding for one in variant.instances)
                yield "clary_concurrent_requests", labels, outstanding
                yield "clary_instances", labels, len(variant.instances)
                if variant.multi_model is not None:
                    yield "clary_loaded_models", labels, sum(self._loaded(variant))

    def _observe_peaks(
        self,
        route: EndpointRoute,
        variant: Variant,
        metric: str,
        place: Dimensions,
        told: set[tuple[str, Dimensions]],
    ) -> None:
        peaks = [one.take_peak() for one in variant.instances]
        key = (route.region, place)
        if peaks and (any(peaks) or key in self._told):
            told.add(key)
            for peak in peaks:
                self._metrics.observe(metric, route.region, place, "Count", peak)

    def _observe_serverless(
        self,
        route: EndpointRoute,
        variant: Variant,
        place: Dimensions,
        told: set[tuple[str, Dimensions]],
    ) -> None:
        settings = variant.serverless
        assert settings is not None
        peak = self._serverless.take_peak(variant)
        key = (route.region, place)
        if not peak and key not in self._told:
            return
        told.add(key)
        shares = [("ServerlessConcurrentExecutionsUtilization", settings.concurrency)]
        if settings.provisioned:
            shares.append(("ServerlessProvisionedConcurrencyUtilization", settings.provisioned))
        for metric, whole in shares:
            self._metrics.observe(metric, route.region, place, "None", min(1.0, peak / whole))

    def _loaded(self, variant: Variant) -> list[int]:
        """How many models each instance has in memory."""
        if variant.multi_model is None:
            return []
        return [self._models.shelf(instance).count for instance in variant.instances]
