<?php

namespace Broken;

// PHP gives up on it: it lacks the method of the interface.
final class Fatal implements \Taskbus\TaskInterface
{
}
