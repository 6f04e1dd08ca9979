"""Which commands there are: name → (module under `commands`, summary). Help is printed from here, nothing imported."""

TOP = {
    "run": ("run", "Create and run a new container from an image"),
    "exec": ("exec", "Execute a command in a running container"),
    "ps": ("ps", "List containers"),
    "build": ("build", "Build an image from a Dockerfile"),
    "pull": ("pull", "Download an image from a registry"),
    "push": ("pull", "Upload an image to a registry"),
    "images": ("images", "List images"),
    "login": ("login", "Authenticate to a registry"),
    "logout": ("login", "Log out from a registry"),
    "search": ("search", "Search Docker Hub for images"),
    "version": ("version", "Show the Wherry version information"),
    "info": ("info", "Display system-wide information"),
}

COMMANDS = {
    "attach": ("attach", "Attach local standard input, output, and error streams to a running container"),
    "commit": ("commit", "Create a new image from a container's changes"),
    "cp": ("cp", "Copy files/folders between a container and the local filesystem"),
    "create": ("run", "Create a new container"),
    "diff": ("commit", "Inspect changes to files or directories on a container's filesystem"),
    "events": ("events", "Get real time events from the server"),
    "export": ("archives", "Export a container's filesystem as a tar archive"),
    "history": ("images", "Show the history of an image"),
    "import": ("archives", "Import the contents from a tarball to create a filesystem image"),
    "inspect": ("inspect", "Return low-level information on Wherry objects"),
    "kill": ("lifecycle", "Kill one or more running containers"),
    "load": ("archives", "Load an image from a tar archive or STDIN"),
    "logs": ("logs", "Fetch the logs of a container"),
    "nsenter": ("nsenter", "Run a program of a container's image in its namespaces, as root and unconfined"),
    "pause": ("lifecycle", "Pause all processes within one or more containers"),
    "port": ("port", "List port mappings or a specific mapping for the container"),
    "rename": ("lifecycle", "Rename a container"),
    "restart": ("lifecycle", "Restart one or more containers"),
    "rm": ("lifecycle", "Remove one or more containers"),
    "rmi": ("images", "Remove one or more images"),
    "save": ("archives", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "start": ("start", "Start one or more stopped containers"),
    "stats": ("stats", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("lifecycle", "Stop one or more running containers"),
    "tag": ("images", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "top": ("port", "Display the running processes of a container"),
    "unpause": ("lifecycle", "Unpause all processes within one or more containers"),
    "update": ("update", "Update configuration of one or more containers"),
    "wait": ("lifecycle", "Block until one or more containers stop, then print their exit codes"),
}

_CONTAINER = {
    "attach": COMMANDS["attach"],
    "commit": COMMANDS["commit"],
    "cp": COMMANDS["cp"],
    "create": COMMANDS["create"],
    "diff": COMMANDS["diff"],
    "exec": TOP["exec"],
    "export": COMMANDS["export"],
    "inspect": ("inspect", "Display detailed information on one or more containers"),
    "kill": COMMANDS["kill"],
    "logs": COMMANDS["logs"],
    "nsenter": COMMANDS["nsenter"],
    "ls": TOP["ps"],
    "pause": COMMANDS["pause"],
    "port": COMMANDS["port"],
    "prune": ("prune", "Remove all stopped containers"),
    "rename": COMMANDS["rename"],
    "restart": COMMANDS["restart"],
    "rm": COMMANDS["rm"],
    "run": TOP["run"],
    "start": COMMANDS["start"],
    "stats": COMMANDS["stats"],
    "stop": COMMANDS["stop"],
    "top": COMMANDS["top"],
    "unpause": COMMANDS["unpause"],
    "update": COMMANDS["update"],
    "wait": COMMANDS["wait"],
}

_IMAGE = {
    "build": TOP["build"],
    "bootstrap": ("bootstrap", "Make a base image from this machine's Debian packages"),
    "copy": ("copy", "Copy an image to another engine, without a registry"),
    "history": COMMANDS["history"],
    "import": COMMANDS["import"],
    "inspect": ("inspect", "Display detailed information on one or more images"),
    "load": COMMANDS["load"],
    "ls": TOP["images"],
    "prune": ("prune", "Remove unused images"),
    "pull": TOP["pull"],
    "push": TOP["push"],
    "rm": COMMANDS["rmi"],
    "save": COMMANDS["save"],
    "tag": COMMANDS["tag"],
}

GROUPS = {
    "checkpoint": (
        "Manage checkpoints",
        {
            "create": ("checkpoint", "Create a checkpoint from a running container"),
            "ls": ("checkpoint", "List checkpoints for a container"),
            "rm": ("checkpoint", "Remove a checkpoint"),
        },
    ),
    "container": ("Manage containers", _CONTAINER),
    "image": ("Manage images", _IMAGE),
    "manifest": (
        "Manage Docker image manifests and manifest lists",
        {"inspect": ("manifest", "Display an image manifest, or manifest list")},
    ),
    "network": (
        "Manage networks",
        {
            "check": ("network_verbs", "Say in words why a container, or one of its ports, cannot be reached"),
            "connect": ("network_verbs", "Connect a container to a network"),
            "create": ("network_verbs", "Create a network"),
            "disconnect": ("network_verbs", "Disconnect a container from a network"),
            "inspect": ("inspect", "Display detailed information on one or more networks"),
            "ls": ("networks", "List networks"),
            "prune": ("network_verbs", "Remove all unused networks"),
            "rm": ("network_verbs", "Remove one or more networks"),
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "clone": ("volumes", "Make a volume with the content of another"),
            "create": ("volumes", "Create a volume"),
            "export": ("volumes", "Write the content of a volume as a tar archive"),
            "import": ("volumes", "Make a volume of a tar archive"),
            "inspect": ("inspect", "Display detailed information on one or more volumes"),
            "ls": ("volumes", "List volumes"),
            "prune": ("volumes", "Remove unused local volumes"),
            "rm": ("volumes", "Remove one or more volumes"),
        },
    ),
    "proxy": (
        "Look at services behind the load balancer",
        {
            "inspect": ("proxy", "Display detailed information on one or more services"),
            "ls": ("proxy", "List services"),
            "stats": ("proxy", "Display what services and their containers have done"),
        },
    ),
    "builder": (
        "Manage builds",
        {"build": TOP["build"], "du": ("du", "Disk usage"), "prune": ("build", "Remove build cache")},
    ),
    "system": (
        "Manage Wherry",
        {
            "check": ("check", "Look whether every image is there and whole"),
            "df": ("df", "Show Wherry disk usage"),
            "events": COMMANDS["events"],
            "info": TOP["info"],
            "prune": ("system_prune", "Remove unused data"),
        },
    ),
}

# commands that no help lists: programs call them
HIDDEN = {"system dial-stdio": ("dial", "Proxy the stdio stream to the daemon connection")}

# other names inside a group → the one that counts
SYNONYMS = {
    "checkpoint": {"list": "ls", "remove": "rm"},
    "container": {"list": "ls", "ps": "ls", "remove": "rm"},
    "image": {"list": "ls", "remove": "rm"},
    "network": {"list": "ls", "remove": "rm"},
    "volume": {"list": "ls", "remove": "rm"},
    "proxy": {"list": "ls"},
}
