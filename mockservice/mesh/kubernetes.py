"""The fields of Kubernetes' workloads, pods and Services, by which a misspelt one is known.

Local lanes read few of them. The others tell a cluster how to schedule, start, restrict and stop
pods, which means nothing here.
Source: Kubernetes 1.37, API reference; Argo Rollouts, `RolloutSpec`.
"""

from __future__ import annotations

from typing import Final

from mockservice.manifests.kinds import (
    DAEMON_SET,
    DEPLOYMENT,
    REPLICA_SET,
    ROLLOUT,
    STATEFUL_SET,
)

_OF_ALL: Final = ("minReadySeconds", "replicas", "selector", "template")

WORKLOAD: Final = {
    DEPLOYMENT: (
        *_OF_ALL,
        "paused",
        "progressDeadlineSeconds",
        "revisionHistoryLimit",
        "strategy",
    ),
    REPLICA_SET: _OF_ALL,
    STATEFUL_SET: (
        *_OF_ALL,
        "ordinals",
        "persistentVolumeClaimRetentionPolicy",
        "podManagementPolicy",
        "revisionHistoryLimit",
        "serviceName",
        "updateStrategy",
        "volumeClaimTemplates",
    ),
    DAEMON_SET: (
        "minReadySeconds",
        "revisionHistoryLimit",
        "selector",
        "template",
        "updateStrategy",
    ),
    ROLLOUT: (
        *_OF_ALL,
        "analysis",
        "paused",
        "progressDeadlineAbort",
        "progressDeadlineSeconds",
        "restartAt",
        "revisionHistoryLimit",
        "rollbackWindow",
        "strategy",
        "workloadRef",
    ),
}
"""By group and kind, in `spec`."""

METADATA: Final = (
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)

POD: Final = (
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "evictionResponders",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "schedulingGroup",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
)

CONTAINER: Final = (
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "restartPolicyRules",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
)

CONTAINER_PORT: Final = ("containerPort", "hostIP", "hostPort", "name", "protocol")

SERVICE: Final = (
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
    "type",
)

SERVICE_PORT: Final = ("appProtocol", "name", "nodePort", "port", "protocol", "targetPort")
