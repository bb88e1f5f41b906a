<?php

final class NoTask
{
}
