<?php

declare(strict_types=1);

namespace Taskbus\Wamp;

/** There is no router, or it is gone, or keeps silent: try again. */
final class ConnectionLost extends \RuntimeException
{
}
